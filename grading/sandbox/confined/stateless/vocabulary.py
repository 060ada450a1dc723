"""What a program may name and still be proven stateless: modules, functions, methods and exceptions.

A name is listed only if what it gives access to keeps no state that a program could see in a later test, or if
`watching.RESETS` restores that state. Python paths such as `itertools.chain` stand for what they import.
"""

# ruff: noqa: SIM905  (lists of words are easier to read as text)

import collections
import decimal
import fractions

from alphamix.grading.sandbox.confined.stateless.kinds import LEVEL, OBJECT, SET, Callee

_ALL = range(256)
_ON_VALUES = Callee()


def _each(names: str, callee: Callee = _ON_VALUES) -> dict[str, Callee]:
    return dict.fromkeys(names.split(), callee)


_KEY = ("key",)
CALLEES: dict[str, Callee] = {
    **_each("abs ascii bin chr divmod exit format hex input int oct ord pow quit range repr round slice str bytes"),
    **_each("bytearray float complex"),
    **_each("all any sum list tuple dict", Callee(takes=(0,))),
    **_each("set frozenset", Callee(SET, takes=(0,))),
    **_each("len bool", Callee(takes=(0,), orders=False)),
    **_each("max min", Callee(takes=(0,), keywords=_KEY, is_alone=True)),
    "sorted": Callee(takes=(0,), keywords=_KEY),
    "next": Callee(takes=(0,)),
    "object": Callee(OBJECT),
    "print": Callee(keywords=("file",)),
    **_each("enumerate iter reversed", Callee(OBJECT, takes=(0,))),
    **_each("filter map zip", Callee(OBJECT, takes=_ALL)),
    **_each("math.ceil math.comb math.factorial math.floor math.gcd math.isqrt math.lcm math.perm"),
    "math.prod": Callee(takes=(0,)),
    **_each("math.acos math.asin math.atan math.atan2 math.cos math.degrees math.dist math.exp math.fabs math.fmod"),
    **_each("math.hypot math.isclose math.isfinite math.isinf math.isnan math.log math.log10 math.log2 math.modf"),
    **_each("math.pow math.radians math.sin math.sqrt math.tan math.trunc math.cbrt"),
    "math.fsum": Callee(takes=(0,)),
    **_each("collections.Counter collections.deque collections.OrderedDict", Callee(takes=(0,))),
    "collections.defaultdict": Callee(takes=(0,)),
    **_each("heapq.heapify heapq.heappop heapq.heappush heapq.heappushpop heapq.heapreplace"),
    **_each("heapq.nlargest heapq.nsmallest", Callee(takes=(1,), keywords=_KEY)),
    "heapq.merge": Callee(OBJECT, takes=_ALL, keywords=_KEY),
    **_each("bisect.bisect bisect.bisect_left bisect.bisect_right bisect.insort bisect.insort_left "
            "bisect.insort_right", Callee(keywords=_KEY)),
    **_each("itertools.count itertools.repeat", Callee(OBJECT)),
    **_each("itertools.chain itertools.product itertools.zip_longest", Callee(OBJECT, takes=_ALL)),
    **_each("itertools.combinations itertools.combinations_with_replacement itertools.cycle itertools.islice "
            "itertools.pairwise itertools.permutations itertools.chain.from_iterable", Callee(OBJECT, takes=(0,))),
    **_each("itertools.accumulate itertools.compress itertools.dropwhile itertools.filterfalse itertools.starmap "
            "itertools.takewhile", Callee(OBJECT, takes=(0, 1))),
    "functools.lru_cache": Callee(OBJECT | OBJECT << LEVEL),
    "functools.cmp_to_key": Callee(OBJECT | OBJECT << LEVEL, takes=(0,)),
    **_each("functools.cache functools.partial", Callee(OBJECT, takes=(0,))),
    "functools.reduce": Callee(takes=(0, 1)),
    **_each("operator.add operator.and_ operator.eq operator.floordiv operator.ge operator.gt operator.le operator.lt"),
    **_each("operator.mod operator.mul operator.ne operator.neg operator.or_ operator.sub operator.xor"),
    "operator.itemgetter": Callee(OBJECT),
    **_each("copy.copy fractions.Fraction decimal.Decimal sys.exit sys.setrecursionlimit"),
    "decimal.getcontext": Callee(OBJECT),
    **_each("random.choice random.choices random.randint random.random random.randrange random.sample random.seed"),
    **_each("random.shuffle random.uniform"),
    **_each("re.escape re.findall re.split re.sub"),
    **_each("re.compile re.fullmatch re.match re.search", Callee(OBJECT)),
    "threading.Thread": Callee(OBJECT, keywords=("target",)),
    "threading.stack_size": Callee(),
    "dict.fromkeys": Callee(takes=(0,)),
    **_each("int.from_bytes str.maketrans"),
    "super": Callee(OBJECT),
}  # fmt: skip

CONSTANTS = frozenset(
    "__name__ NotImplemented math.e math.inf math.nan math.pi math.tau sys.maxsize string.ascii_letters "
    "string.ascii_lowercase string.ascii_uppercase string.digits string.hexdigits string.punctuation".split()
)

STREAMS = frozenset("sys.stdin sys.stdout sys.stderr sys.stdin.buffer sys.stdout.buffer".split())

TYPES = frozenset("bool bytearray bytes complex dict float frozenset int list object range set str tuple".split())
"""Builtin types, which may also be named in annotations, in `isinstance` and as the start of `str.lower`."""

FACTORIES = frozenset(
    {"int", "float", "str", "bool", "list", "dict", "tuple", "set"}
    | {f"collections.{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")}
)
"""Types whose text shows no address."""

EXCEPTIONS = frozenset(
    "ArithmeticError AssertionError AttributeError EOFError IndexError KeyError LookupError "
    "NotImplementedError OverflowError StopIteration TypeError UnboundLocalError UnicodeDecodeError UnicodeError "
    "ValueError ZeroDivisionError".split()
)
"""Exceptions that may be caught: none comes from a lack of memory or depth, or from a name that is not defined."""

RAISED_ONLY = frozenset("Exception RuntimeError RecursionError SystemExit".split())

ANNOTATIONS = frozenset(
    "Any Callable ClassVar Counter DefaultDict Deque Dict FrozenSet Generator Hashable Iterable Iterator List Mapping "
    "MutableSequence NoReturn Optional OrderedDict Sequence Set Sized Tuple Type Union".split()
)
"""Names of `typing` and `collections.abc`, for annotations only."""

MODULES = frozenset(
    {path.partition(".")[0] for path in {*CALLEES, *CONSTANTS, *STREAMS} if "." in path} - TYPES
    | {"typing", "collections.abc", "__future__"}
)

_ITERABLE = Callee(takes=(0,))
METHODS: dict[str, Callee] = {
    # text and bytes
    **_each("capitalize casefold center count decode encode endswith expandtabs find index isalnum isalpha isascii"),
    **_each("isdecimal isdigit isidentifier islower isnumeric isspace istitle isupper ljust lower lstrip partition"),
    **_each("removeprefix removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines"),
    **_each("startswith strip swapcase title translate upper zfill"),
    "join": _ITERABLE,
    # lists, deques and dictionaries
    **_each("append appendleft clear copy get insert move_to_end most_common pop popitem popleft remove reverse"),
    **_each("rotate setdefault"),
    **_each("extend extendleft subtract update", _ITERABLE),
    **_each("elements items keys values", Callee(OBJECT)),
    "sort": Callee(keywords=_KEY),
    # sets
    **_each("add discard"),
    **_each("difference intersection symmetric_difference union", Callee(SET, takes=_ALL)),
    **_each("difference_update intersection_update isdisjoint issubset issuperset symmetric_difference_update",
            Callee(takes=_ALL)),
    # numbers
    **_each("bit_count bit_length is_integer limit_denominator quantize to_bytes"),
    # streams, matches, threads, caches
    **_each("flush read readline readlines write"),
    "writelines": _ITERABLE,
    **_each("end findall group groups span start sub"),
    **_each("fullmatch match search", Callee(OBJECT)),
    **_each("cache_clear"),
}  # fmt: skip

SET_METHODS = frozenset("add clear discard difference_update remove update".split())
"""Methods that do not show the order of a set."""

DUNDERS = frozenset(
    "__abs__ __add__ __and__ __bool__ __call__ __contains__ __delitem__ __eq__ __floordiv__ __ge__ __getitem__ __gt__ "
    "__hash__ __iadd__ __imul__ __init__ __int__ __isub__ __iter__ __le__ __len__ __lt__ __matmul__ __missing__ "
    "__mod__ __mul__ __ne__ __neg__ __next__ __or__ __pow__ __radd__ __repr__ __reversed__ __rmul__ __rsub__ "
    "__setitem__ __str__ __sub__ __truediv__ __xor__".split()
)

REVEALING_METHODS = frozenset("format format_map mro".split())
"""Methods of builtin values that no method of the program may share its name with: they show addresses or types."""

INTEGER_MATH = frozenset("ceil comb factorial floor gcd isqrt lcm perm prod".split())
"""Functions of `math` that make no float NaN from integers."""

ATTRIBUTES_OF_VALUES = frozenset(
    name
    for of in (
        type, str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, range, slice,
        BaseException, collections.deque, collections.defaultdict, collections.OrderedDict, collections.Counter,
        decimal.Decimal, fractions.Fraction,
    )
    for name in dir(of)
) | {"obj"}  # fmt: skip
"""Attributes of what is not of the program's own classes: most are methods, whose text contains an address."""
