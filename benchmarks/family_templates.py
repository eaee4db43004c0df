"""Chat templates in the style of each family: headers, generation prompt, dates, reasoning blocks and tools.

They are short, but have the peculiarities of the published ones: a date from the clock, a system message that moves
into the first question or before the last one, reasoning that disappears from the history, an open or an empty
reasoning block in the generation prompt, a token that ends the conversation as well as one that ends the turn.
"""

from __future__ import annotations

LLAMA3 = """{{- bos_token }}
{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
{%- else %}{%- set date_string = "26 Jul 2024" %}{%- endif %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] | trim %}
{%- set messages = messages[1:] %}
{%- else %}{%- set told = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none and tools is defined %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and tools is defined %}
{{- "Answer with JSON of a function call: {\\"name\\": name, \\"parameters\\": arguments}.\\n\\n" }}
{%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}{%- endif %}
{{- told + "<|eot_id|>" }}
{%- for message in messages %}
{%- if message.role == 'tool' or message.role == 'ipython' %}
{{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" + message.content + "<|eot_id|>" }}
{%- elif message.tool_calls %}
{%- if not message.tool_calls | length == 1 %}{{- raise_exception("This model only supports single tool-calls") }}
{%- endif %}
{%- set call = message.tool_calls[0].function %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
{{- call.arguments | tojson }}{{- "}<|eot_id|>" }}
{%- else %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""

GRANITE3 = """{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}
{%- set rest = messages[1:] %}{%- else %}
{%- set told = "Knowledge Cutoff Date: April 2024.\\nToday's Date: " + strftime_now('%B %d, %Y') + "." %}
{%- set rest = messages %}{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + told + '<|end_of_text|>\\n' }}
{%- if tools %}{{- '<|start_of_role|>tools<|end_of_role|>' }}{{- tools | tojson(indent=4) }}
{{- '<|end_of_text|>\\n' }}
{%- endif %}
{%- for message in rest %}
{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}
{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}
{%- endfor %}"""

GRANITE4 = """{%- set ns = namespace(told='') %}
{%- if tools %}{%- set ns.told = 'You may call these functions.\\n<tools>' %}
{%- for tool in tools %}{%- set ns.told = ns.told + '\\n' + (tool | tojson) %}{%- endfor %}
{%- set ns.told = ns.told + '\\n</tools>\\nWrite each call as JSON within <tool_call></tool_call>.' %}{%- endif %}
{%- if messages[0].role == 'system' %}
{%- set ns.told = messages[0].content + ('\\n\\n' + ns.told if ns.told else '') %}
{%- endif %}
{%- if ns.told %}{{- '<|start_of_role|>system<|end_of_role|>' + ns.told + '<|end_of_text|>\\n' }}{%- endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}
{{- '<|start_of_role|>user<|end_of_role|>' + message.content + '<|end_of_text|>\\n' }}
{%- elif message.role == 'assistant' %}{{- '<|start_of_role|>assistant<|end_of_role|>' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|end_of_text|>\\n' }}
{%- elif message.role == 'tool' %}
{{- '<|start_of_role|>user<|end_of_role|>\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{{- '<|end_of_text|>\\n' }}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}{%- set told = messages[0]["content"] %}
{%- set rest = messages[1:] %}
{%- else %}{%- set rest = messages %}{%- endif %}
{{- bos_token }}
{%- for message in rest %}
{%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
{{- raise_exception("After the optional system message, conversation roles must alternate user/assistant") }}
{%- endif %}
{%- if message["role"] == "user" %}
{%- if loop.last and told is defined %}{{- "[INST] " + told + "\\n\\n" + message["content"] + "[/INST]" }}
{%- else %}{{- "[INST] " + message["content"] + "[/INST]" }}{%- endif %}
{%- elif message["role"] == "assistant" %}{{- " " + message["content"] | trim + eos_token }}
{%- endif %}{%- endfor %}"""

MISTRAL3 = """{%- set today = strftime_now("%Y-%m-%d") %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] %}{%- set rest = messages[1:] %}
{%- else %}{%- set told = "You are Mistral Small 3. The current date is " + today + "." %}{%- set rest = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + told + '[/SYSTEM_PROMPT]' }}
{%- for message in rest %}
{%- if message['role'] == 'user' %}
{%- if message['content'] is string %}{{- '[INST]' + message['content'] + '[/INST]' }}
{%- else %}{{- '[INST]' }}{%- for block in message['content'] %}{{- block['text'] }}{%- endfor %}{{- '[/INST]' }}
{%- endif %}
{%- elif message['role'] == 'assistant' %}{{- message['content'] + eos_token }}
{%- else %}{{- raise_exception('Only user, system and assistant roles are supported!') }}{%- endif %}{%- endfor %}"""

CHATML = """{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

DEEPSEEK_R1 = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{%- set ns = namespace(told='') %}
{%- for message in messages %}{%- if message['role'] == 'system' %}{%- set ns.told = message['content'] %}{%- endif %}
{%- endfor %}{{- bos_token }}{{- ns.told }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- '<\uff5cUser\uff5c>' + message['content'] }}{%- endif %}
{%- if message['role'] == 'assistant' and message['content'] is not none %}
{%- set content = message['content'] %}
{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
{{- '<\uff5cAssistant\uff5c>' + content + '<\uff5cend▁of▁sentence\uff5c>' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<\uff5cAssistant\uff5c><think>\\n' }}{%- endif %}"""

GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content'] + '\\n\\n' %}
{%- set rest = messages[1:] %}
{%- else %}{%- set first = "" %}{%- set rest = messages %}{%- endif %}
{%- for message in rest %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}{%- endif %}
{%- set role = "model" if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + (first if loop.first else "") }}
{%- if message['content'] is string %}{{- message['content'] | trim }}
{%- else %}{%- for item in message['content'] %}{{- item['text'] | trim }}{%- endfor %}{%- endif %}
{{- '<end_of_turn>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"""

GEMMA4 = """{{- bos_token }}
{%- set thinks = enable_thinking is defined and enable_thinking %}
{%- set told = messages[0]['role'] in ['system', 'developer'] %}
{%- if thinks or tools or told %}{{- '<|turn>system\\n' }}
{%- if thinks %}{{- '<|think|>\\n' }}{%- endif %}
{%- if told %}{{- messages[0]['content'] | trim }}{%- endif %}
{%- for tool in tools or [] %}{{- '<|tool>declaration:' + tool['function']['name'] + (tool | tojson) + '<tool|>' }}
{%- endfor %}{{- '<turn|>\\n' }}{%- endif %}
{%- for message in messages %}{%- if not (loop.first and told) %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{%- set content = message['content'] | trim %}
{%- if role == 'model' and '<channel|>' in content %}{%- set content = content.split('<channel|>')[-1] | trim %}
{%- endif %}
{{- '<|turn>' + role + '\\n' + content + '<turn|>\\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|turn>model\\n' }}
{%- if not thinks %}{{- '<|channel>thought\\n<channel|>' }}{%- endif %}{%- endif %}"""

PHI3 = """{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}
{{- '<|system|>\\n' + message['content'] + '<|end|>\\n' }}{% elif message['role'] == 'user' %}
{{- '<|user|>\\n' + message['content'] + '<|end|>\\n' }}{% elif message['role'] == 'assistant' %}
{{- '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

PHI4 = """{% for message in messages %}
{%- if message['role'] in ['system', 'user', 'assistant'] %}
{{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}"""

PHI4_MINI = """{% for message in messages %}
{%- if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}
{%- else %}{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"""

_QWEN_TOOLS = """{%- if tools %}{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] + '\\n\\n' }}{%- else %}{{- DEFAULT }}{%- endif %}
{{- "# Tools\\n\\nYou are provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
{%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
{{- "\\n</tools>\\n\\nReturn a json object within <tool_call></tool_call> XML tags for each call<|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- elif DEFAULT %}{{- '<|im_start|>system\\n' + DEFAULT + '<|im_end|>\\n' }}{%- endif %}
"""
_QWEN_CALLS = """{%- for call in message.tool_calls or [] %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}{%- endfor %}"""
_QWEN_RESULT = """{%- elif message.role == "tool" %}
{%- if loop.first or messages[loop.index0 - 1].role != "tool" %}{{- '<|im_start|>user' }}{%- endif %}
{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"""
QWEN25 = (
    "{%- set DEFAULT = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}"
    + _QWEN_TOOLS
    + """{%- for message in messages %}
{%- if message.role == "user" or (message.role == "system" and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == "assistant" %}{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}"""
    + _QWEN_CALLS
    + "{{- '<|im_end|>\\n' }}"
    + _QWEN_RESULT
    + "{%- endif %}"
)
_QWEN_THINKING = """{%- set ns = namespace(asked=-1) %}
{%- for message in messages %}{%- if message.role == "user" %}{%- set ns.asked = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.role == "user" or (message.role == "system" and not loop.first) %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- elif message.role == "assistant" %}
{%- set content = message.content %}{%- set thoughts = '' %}
{%- if '</think>' in content %}
{%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}
{{- '<|im_start|>assistant\\n' }}
{%- if loop.index0 > ns.asked %}{{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{%- endif %}{{- content }}"""
QWEN3 = (
    "{%- set DEFAULT = '' %}"
    + _QWEN_TOOLS
    + _QWEN_THINKING.replace("loop.index0 > ns.asked", "loop.index0 > ns.asked and (loop.last or thoughts)")
    + _QWEN_CALLS
    + "{{- '<|im_end|>\\n' }}"
    + _QWEN_RESULT
    + "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
_QWEN35_CALLS = """{%- for call in message.tool_calls or [] %}
{{- '\\n\\n<tool_call>\\n<function=' + call.function.name + '>\\n' }}
{%- for name, value in call.function.arguments | items %}{{- '<parameter=' + name + '>\\n' }}
{{- value if value is string else value | tojson }}{{- '\\n</parameter>\\n' }}{%- endfor %}
{{- '</function>\\n</tool_call>' }}{%- endfor %}"""
QWEN35 = (
    "{%- set DEFAULT = '' %}"
    + _QWEN_TOOLS
    + _QWEN_THINKING
    + _QWEN35_CALLS
    + "{{- '<|im_end|>\\n' }}"
    + _QWEN_RESULT
    + "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- else %}{{- '<think>\\n' }}{%- endif %}{%- endif %}"
)
