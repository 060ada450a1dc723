from __future__ import annotations
from dataclasses import dataclass
from enum import Enum
from typing import List
class Kind(Enum):
    A = 1
@dataclass
class Item:
    value: int
    kind: Kind = Kind.A
input()
items: List[Item] = [Item(int(x)) for x in input().split()]
print(sum(item.value for item in items))
