"""What LeetCode provides to a class `Solution` that imports nothing: library names, `ListNode` and `TreeNode`.

That judge runs `from … import *` for these modules, and then imports the modules themselves. Here a name is imported
only if the program uses it, so that no other program pays for it. Whatever the program defines itself takes precedence.
"""

import builtins
import importlib
import re
from types import CodeType
from typing import Any

RECURSION_LIMIT = 50_000
"""Depth of calls: depth-first searches over 10,000 nodes are common there. A stack of 100 MB holds that many calls."""

EXPORTS = {
    "typing": "AbstractSet Any AnyStr Callable ClassVar Collection Container Counter DefaultDict Deque Dict Final "
    "FrozenSet Generator Generic Hashable Iterable Iterator List Literal Mapping MutableMapping MutableSequence "
    "MutableSet NamedTuple NewType NoReturn Optional Protocol Reversible Self Sequence Set Sized Text Tuple Type "
    "TypeAlias TypeVar TypedDict Union cast overload",
    "string": "Formatter Template ascii_letters ascii_lowercase ascii_uppercase capwords digits hexdigits octdigits "
    "printable punctuation whitespace",
    "re": "IGNORECASE MULTILINE Match Pattern escape findall finditer fullmatch match search split subn",
    "datetime": "MAXYEAR MINYEAR date time timedelta timezone tzinfo",
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace merge nlargest nsmallest",
    "bisect": "bisect_left bisect_right insort insort_left insort_right",
    "copy": "deepcopy",
    "math": "acos acosh asin asinh atan atan2 atanh ceil comb copysign cos cosh degrees dist e erf erfc exp expm1 fabs "
    "factorial floor fmod frexp fsum gamma gcd hypot inf isclose isfinite isinf isnan isqrt lcm ldexp lgamma log log10 "
    "log1p log2 modf nan nextafter perm pi prod radians remainder sin sinh sqrt tan tanh tau trunc ulp",
    "random": "Random choice choices gauss getrandbits randint randrange sample seed shuffle uniform",
    "statistics": "NormalDist StatisticsError fmean geometric_mean harmonic_mean mean median median_high median_low "
    "mode multimode pstdev pvariance quantiles stdev variance",
    "itertools": "accumulate chain combinations combinations_with_replacement compress count cycle dropwhile "
    "filterfalse groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
    "functools": "cache cached_property cmp_to_key lru_cache partial partialmethod reduce singledispatch "
    "total_ordering update_wrapper wraps",
    "operator": "add and_ attrgetter concat contains countOf eq floordiv ge getitem gt iadd iand imul index indexOf "
    "inv invert ior is_ is_not isub itemgetter ixor le lshift lt methodcaller mod mul ne neg not_ or_ pos rshift sub "
    "truediv truth xor",
    "io": "BytesIO StringIO TextIOWrapper",
    "sys": "argv byteorder float_info getrecursionlimit getsizeof intern maxsize maxunicode modules setrecursionlimit "
    "stderr stdin stdout version version_info",
    "json": "JSONDecodeError JSONDecoder JSONEncoder dump dumps load loads",
}
"""Names of each module, in the order of the imports: a later module takes precedence."""
MODULE_OF_NAME = {name: module for module, names in EXPORTS.items() for name in names.split()}
MODULES = frozenset(EXPORTS) | {"array"}
_WORD = re.compile(r"\w+")
_LONGEST_ANNOTATION = 200


class ListNode:
    """Node of a singly linked list."""

    def __init__(self, val: Any = 0, next: "ListNode | None" = None) -> None:  # noqa: A002
        self.val = val
        self.next = next


class TreeNode:
    """Node of a binary tree."""

    def __init__(self, val: Any = 0, left: "TreeNode | None" = None, right: "TreeNode | None" = None) -> None:
        self.val = val
        self.left = left
        self.right = right


_NODES: dict[str, object] = {"ListNode": ListNode, "TreeNode": TreeNode}


def provide(code: CodeType) -> dict[str, Any]:
    """Return the values of the names that `code` uses and LeetCode provides. Built-in names keep their meaning."""
    used = _names(code)
    provided: dict[str, Any] = {name: _NODES[name] for name in used & _NODES.keys()}
    for name in (used & (MODULES | MODULE_OF_NAME.keys())) - vars(builtins).keys():
        if name in MODULES:
            provided[name] = importlib.import_module(name)
        else:
            module = importlib.import_module(MODULE_OF_NAME[name])
            if hasattr(module, name):  # other versions of Python may lack it
                provided[name] = getattr(module, name)
    return provided


def _names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in a code object and in the functions and classes that it defines.

    Where a text mentions a node, as a quoted annotation does, the words of all short texts are names as well.
    """
    names: set[str] = set()
    texts: list[str] = []
    pending = [code]
    while pending:
        each = pending.pop()
        names.update(each.co_names)
        pending.extend(constant for constant in each.co_consts if isinstance(constant, CodeType))
        texts.extend(text for text in each.co_consts if isinstance(text, str) and len(text) <= _LONGEST_ANNOTATION)
    if any(node in text for node in _NODES for text in texts):
        names.update(*map(_WORD.findall, texts))
    return names
