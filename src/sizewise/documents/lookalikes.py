"""Recognize what looks like personal data but isn't: versions, packages, times, quantities, and numbers of goods."""

from __future__ import annotations

import re

from sizewise.guard import Found

BEFORE, AFTER = 40, 24
_VERSION = re.compile(
    r"(?:\bv|\b(?:version|release|firmware|build|patch|update|upgrade|driver|kernel|versión|versione|версия|版本|"
    r"バージョン)\w{0,4}(?:[ :=#]+(?:to|auf|from|von|number|nr\.?|no\.?))?)[ :=#\"']*\Z",
    re.IGNORECASE,
)
_PACKAGE = re.compile(r"@[\d.]+(?:[-+][\w.]+)?\Z|\Agit@")
_TIME = re.compile(r"(?:19|20)\d\d[-./]\d\d?[-./]\d\d?[ T]\d\d?\Z")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:[ .\u00a0\u202f]\d{3})+\Z")
_COUNTED = re.compile(
    r"\s*(?:€|\$|£|%|EUR\b|USD\b|CHF\b|euros?\b|dollars?\b|[kMG]?B\b|bytes?\b|k[mg]\b|km²|tonn|stück|inhabitants|people"
    r"|persons|users|views|years|einwohner|menschen|personen|nutzer|jahre|habitants|personnes|habitantes|personas"
    r"|abitanti|persone|inwoners|mieszka|osób|жител|человек|рубл|人|円|元|원|명)",
    re.IGNORECASE,
)
_NUMBER_OF = (
    r"[ \-_]?(?:codes?|numbers?|numéro|número|numero|номер|nummern?|nr|no|n°|№|id|号码?|番号)?[ .:#=\"'\uff1a]*\Z"
)
_BUSINESS = re.compile(
    r"(?:\b(?:hs|hts|taric|isbn|issn|invoice|order|shipment|tracking|article|item|ticket|case|serial|part|batch|lot|"
    r"rechnungs?|bestell\w{0,5}|auftrags?|artikel|zolltarif|vorgangs?|serien|facture|commande|factura|pedido|fattura|"
    r"ordine|factuur|faktura|zamówieni\w|заказ\w?|счет\w?|счёт\w?)|订单|发票|注文)" + _NUMBER_OF,
    re.IGNORECASE,
)
_GOODS = re.compile(r"\b(?:sku|ean|gtin|upc|isbn)" + _NUMBER_OF, re.IGNORECASE)


def is_lookalike(text: str, found: Found) -> bool:
    """Return whether the words around a finding, or its form, show that it is no personal data.

    Only clear cases count, because a missed number does more harm than a masked one.
    """
    value = text[found.start : found.end]
    before, after = text[max(0, found.start - BEFORE) : found.start], text[found.end : found.end + AFTER]
    if found.kind == "ip":
        return bool(_VERSION.search(before))
    if found.kind == "email":
        return bool(_PACKAGE.search(value))
    if found.kind == "card":
        return bool(_GOODS.search(before))
    if found.kind != "phone":
        return False
    counted = _THOUSANDS.match(value) and _COUNTED.match(after)
    return bool(counted or _TIME.match(value) or _BUSINESS.search(before) or _GOODS.search(before))
