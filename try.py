import time
from sizewise.lm.sizing import count
L=dict(model_type="llama",hidden_size=4096,intermediate_size=14336,num_hidden_layers=32,num_attention_heads=32,num_key_value_heads=8,vocab_size=128256,tie_word_embeddings=False,max_position_embeddings=131072)
C={
"mistral7b 7241732096":dict(L,model_type="mistral",vocab_size=32000,sliding_window=4096,max_position_embeddings=32768),
"llama31 8030261248":L,
"smol 134515008":dict(model_type="llama",hidden_size=576,intermediate_size=1536,num_hidden_layers=30,num_attention_heads=9,num_key_value_heads=3,vocab_size=49152,tie_word_embeddings=True),
"qwen25-0.5 494032768":dict(model_type="qwen2",hidden_size=896,intermediate_size=4864,num_hidden_layers=24,num_attention_heads=14,num_key_value_heads=2,vocab_size=151936,tie_word_embeddings=True),
"phi3mini 3821079552":dict(model_type="phi3",hidden_size=3072,intermediate_size=8192,num_hidden_layers=32,num_attention_heads=32,num_key_value_heads=32,vocab_size=32064,tie_word_embeddings=False,sliding_window=2047,pad_token_id=0),
"r1-qwen1.5 1777088000":dict(model_type="qwen2",hidden_size=1536,intermediate_size=8960,num_hidden_layers=28,num_attention_heads=12,num_key_value_heads=2,vocab_size=151936,tie_word_embeddings=False),
"granite":dict(model_type="granite",hidden_size=2048,intermediate_size=8192,num_hidden_layers=40,num_attention_heads=32,num_key_value_heads=8,vocab_size=49155,tie_word_embeddings=True),
"orca2-7b":dict(L,num_key_value_heads=32,intermediate_size=11008,vocab_size=32003),
"mixtral 46702792704":dict(L,model_type="mixtral",vocab_size=32000,num_local_experts=8,num_experts_per_tok=2),
"dsv3 671026404352":dict(model_type="deepseek_v3",hidden_size=7168,intermediate_size=18432,moe_intermediate_size=2048,num_hidden_layers=61,num_attention_heads=128,num_key_value_heads=128,n_shared_experts=1,n_routed_experts=256,num_experts_per_tok=8,q_lora_rank=1536,kv_lora_rank=512,qk_rope_head_dim=64,v_head_dim=128,qk_nope_head_dim=128,vocab_size=129280,first_k_dense_replace=3,tie_word_embeddings=False),
}
for k,c in C.items():
    t=time.time()
    try: r=count(c); print(k,r[:4],round(time.time()-t,1))
    except Exception as e: print(k,'ERR',e)
