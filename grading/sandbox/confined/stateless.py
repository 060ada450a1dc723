"""Proof that a program carries nothing from one test to the next, so that its tests may share a process.

The proof reads the syntax tree before anything runs. It is a list of what is allowed: any construct, name, attribute
or argument that is not listed here ends it, and then every test gets a process of its own. It rests on two facts.

*What a program makes dies with its test.* Every test executes the whole source in a fresh module, so its variables,
functions, classes, defaults, closures and caches are new. State survives only in what the interpreter keeps: modules
with their attributes, types, streams, files, threads, registries. A proven program cannot change these, because it
never holds them as a value. Modules, functions, types, iterators and streams are *opaque*: such an expression may only
be called, iterated over, compared by identity, or given to a listed argument (`key=`, `map(int, …)`). It is never
stored in a container or attribute, nor passed to a function of the program. A variable that is assigned an opaque value
is opaque wherever its name occurs. So what an assignment `x.name = …` changes can only be an object of the program.
Modules with state of their own are reset before the next test (`RESETS`). No code of the program runs after its test:
there is no `__del__`, and a generator that is collected later has no `try` or `with`.

*What a program sees does not depend on earlier tests.* The source runs with the same hash seed and limits each time.
Only two things differ in a process that has run other tests, and neither can be observed:

- Addresses. They show in the text and in the hash of an opaque object, which therefore is never converted or stored.
  Instances of the program's classes are ordinary values; if one is hashed or shown by its address, the class itself
  ends the process (`watch_classes`), and its tests are run apart. The hash of a float NaN is an address as well, so in
  programs that may compute with floats sets are opaque too, and never iterated.
- Free memory and depth. They show only where an allocation or a call fails, and nothing that is allowed can catch a
  MemoryError or RecursionError. Such a test is run again in a process of its own.

Time is not part of the proof: `judge.run_tests` bounds what a used process may save. The proof relies on the
interpreter to be correct for the constructs that it allows.
"""

import _ast as ast
import builtins
import contextlib
import importlib
import re
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from alphamix.grading.sandbox.confined.vocabulary import (
    ANNOTATIONS,
    ATTRIBUTES_OF_VALUES,
    CALLEES,
    CONSTANTS,
    DUNDERS,
    EXCEPTIONS,
    INTEGER_MATH,
    LEVEL,
    METHODS,
    MODULES,
    NO_CALLS,
    NO_ITEMS,
    OBJECT,
    OPAQUE,
    PLAIN,
    RAISED_ONLY,
    REVEALING_METHODS,
    SET,
    SET_METHODS,
    STREAMS,
    TYPES,
    UNORDERED,
    Callee,
)

MAX_SOURCE_BYTES = 1 << 16
"""Longest source that is read. The interpreter learns while it runs code, and must not learn more than a test's worth
of time (see `judge.run_tests`)."""
_SAVED_DEPTH = 200
"""More calls than the interpreter nests to do something for the first time: to import a module or a codec, say."""
_MAX_PASSES = 4
_ONLY_AST = 0x400

RESETS: dict[str, Callable[[Any], object]] = {
    "decimal": lambda decimal: decimal.setcontext(decimal.Context()),
    "random": lambda random: random.seed(),
    "re": lambda re: re.purge(),
    "threading": lambda threading: threading.stack_size(0),
}
"""What makes the state of a module new again, given the module."""


class _UnprovenError(Exception):
    pass


def prove(source: bytes, *, has_floats: bool) -> frozenset[str] | None:
    """Return the modules that a program imports if it is proven stateless, else None.

    Args:
        source: A program that compiles.
        has_floats: Whether a test calls the program with floats.
    """
    if len(source) > MAX_SOURCE_BYTES:
        return None
    try:
        tree: Any = compile(source, "main.py", "exec", _ONLY_AST, dont_inherit=True)
        return _Proof(tree, has_floats).modules
    except (_UnprovenError, RecursionError, MemoryError):
        return None


def reset(modules: frozenset[str]) -> None:
    """Reset the state of those modules that have any."""
    for name in RESETS.keys() & modules:
        RESETS[name](sys.modules[name])


def watch(modules: frozenset[str], on_address: Callable[[], object]) -> None:
    """Import the modules of a proven program, and call `on_address` when the program uses what is not proven.

    That is the address of an instance, or an exception that ends a thread and may come from a lack of memory. The
    recursion limit is lower by what a fresh process may need and a used one may not. So a program that exceeds it is
    run apart.
    """
    for name in modules:
        importlib.import_module(name)
    if "threading" in modules:

        def excepthook(_: object) -> None:
            on_address()

        vars(sys.modules["threading"])["excepthook"] = excepthook
    set_limit = sys.setrecursionlimit

    def set_lower_limit(limit: int, /) -> None:
        set_limit(limit)
        set_limit(max(limit - _SAVED_DEPTH, 1))

    sys.setrecursionlimit = set_lower_limit
    set_lower_limit(sys.getrecursionlimit())
    build_class = builtins.__build_class__

    def show(instance: object) -> str:
        on_address()
        return object.__repr__(instance)

    def hash_of(instance: object) -> int:
        on_address()
        return object.__hash__(instance)

    def build(*definition: Any) -> Any:
        made = build_class(*definition)
        if made.__repr__ is object.__repr__:
            made.__repr__ = show
        if made.__hash__ is object.__hash__:
            made.__hash__ = hash_of
        return made

    builtins.__build_class__ = build


class _Frame:
    """What is known of the function whose body is being read."""

    def __init__(self) -> None:
        self.returns, self.yields, self.tries = PLAIN, False, False


class _Proof:
    """Reads a tree. Every value has a kind (see `vocabulary`), which can only become stricter from pass to pass."""

    def __init__(self, tree: Any, has_floats: bool) -> None:
        self.modules: frozenset[str] = frozenset()
        self._has_floats = has_floats
        self._bound: set[str] = set()
        self._imported: dict[str, str] = {}
        self._classes: set[str] = set()
        self._attributes: set[str] = set()
        self._names: dict[str, int] = {}
        self._methods: dict[str, int] = {}
        self._properties: dict[str, bool] = {}
        self._frames = [_Frame()]
        self._collect(tree)
        if self._bound & self._imported.keys() or self._attributes & self._methods.keys():
            raise _UnprovenError
        self._require(not self._methods.keys() & REVEALING_METHODS)
        bound = {*self._bound, *self._imported, *self._attributes, *self._methods}
        self._require(not any(_MANGLED.match(name) for name in bound))
        # An instance of the program that is given as flags or as a replacement would get flags or matches to keep.
        has_operators = any(_is_dunder(name) and name != "__init__" for name in self._methods)
        self._require("re" not in self.modules or not has_operators)
        for _ in range(_MAX_PASSES):
            self._used: set[str] = set()
            self._is_settled = True
            self._run(tree.body)
            if self._is_settled:
                return
        raise _UnprovenError

    # First reading: which names the program binds, and whether it may compute with floats.

    def _collect(self, tree: Any) -> None:
        for node in _walk(tree):
            collect = self._collectors.get(node.__class__)
            if collect is not None:
                collect(self, node)
        self._require(not self._classes & self._bound)
        self._bound |= self._classes
        self._names |= dict.fromkeys(self._classes, OBJECT)

    def _collect_name(self, node: ast.Name) -> None:
        if node.ctx.__class__ is not ast.Load:
            self._bound.add(node.id)
        elif node.id in ("float", "complex", "pow"):
            self._has_floats = True

    def _collect_attribute(self, node: ast.Attribute) -> None:
        if node.ctx.__class__ is not ast.Load:
            self._attributes.add(node.attr)
        elif node.attr in _FLOAT_MATH:
            self._has_floats = True

    def _collect_parameter(self, node: ast.arg) -> None:
        self._bound.add(node.arg)

    def _collect_function(self, node: ast.FunctionDef) -> None:
        self._bound.add(node.name)

    def _collect_constant(self, node: ast.Constant) -> None:
        self._has_floats |= node.value.__class__ in (float, complex)

    def _collect_operation(self, node: ast.BinOp | ast.AugAssign) -> None:
        self._has_floats |= _may_make_floats(node)

    def _collect_handler(self, node: ast.ExceptHandler) -> None:
        if node.name is not None:
            self._bound.add(node.name)
            self._names[node.name] = OBJECT

    def _collect_class(self, node: ast.ClassDef) -> None:
        self._classes.add(node.name)
        for statement in node.body:
            match statement:
                case ast.FunctionDef():
                    self._methods.setdefault(statement.name, OBJECT)
                case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                    self._attributes.add(name)
                case _:
                    pass

    def _collect_imports(self, node: ast.Import | ast.ImportFrom) -> None:
        paths: dict[str, str] = {}
        for alias in node.names:
            if isinstance(node, ast.Import):
                module = alias.name
                paths[alias.asname or module] = module
            else:
                module = node.module or ""
                known = [alias.name] if alias.name != "*" else _public_names(module)
                paths |= {alias.asname or name: f"{module}.{name}" for name in known}
            self._require(module in MODULES and not (isinstance(node, ast.Import) and "." in module))
            self.modules |= {module}
            self._has_floats |= module in ("decimal", "random") or (
                module == "math" and isinstance(node, ast.ImportFrom) and alias.name not in INTEGER_MATH
            )
        for name, path in paths.items():
            # Where the import has not run yet, the name of a builtin would still mean the builtin.
            self._require(not hasattr(builtins, name) or path == "math.pow")
            self._require(self._imported.setdefault(name, path) == path)

    # Second reading: statements.

    def _run(self, statements: Sequence[Any]) -> None:
        for statement in statements:
            self._statements.get(statement.__class__, _unproven)(self, statement)

    def _expression(self, node: ast.Expr) -> None:
        self._kind(node.value)

    def _assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._store(target, node.value)

    def _annotated(self, node: ast.AnnAssign) -> None:
        self._annotation(node.annotation)
        if node.value is not None:
            self._store(node.target, node.value)

    def _augmented(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._require(self._name_kind(node.target.id) == PLAIN)
        self._bind(node.target)
        self._plain(node.value)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._require(not isinstance(target, ast.Attribute))
            self._bind(target)

    def _for(self, node: ast.For) -> None:
        self._bind(node.target)
        self._consume(node.iter)
        self._run(node.body)
        self._run(node.orelse)

    def _branch(self, node: ast.If | ast.While) -> None:
        self._kind(node.test)
        self._run(node.body)
        self._run(node.orelse)

    def _assert(self, node: ast.Assert) -> None:
        self._kind(node.test)
        if node.msg is not None:
            self._plain(node.msg)

    def _raise(self, node: ast.Raise) -> None:
        for value in (node.exc, node.cause):
            if value is not None:
                self._kind(value)

    def _try(self, node: ast.Try) -> None:
        self._frames[-1].tries = True
        self._require(not node.finalbody)
        self._run(node.body)
        for handler in node.handlers:
            caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            for kind in caught:
                self._require(
                    isinstance(kind, ast.Name) and (self._path(kind) in EXCEPTIONS or kind.id in self._classes)
                )
            self._run(handler.body)
        self._run(node.orelse)

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self._frames[-1].returns |= self._kind(node.value)

    def _nothing(self, node: Any) -> None:
        pass

    def _function(self, node: ast.FunctionDef) -> None:
        self._learn(self._names, node.name, self._function_kind(node, _CACHES))

    def _function_kind(self, node: ast.FunctionDef, decorators: frozenset[str]) -> int:
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call):
                self._kind(decorator)
                decorator = decorator.func
            self._require(self._path(decorator) in decorators)
        self._parameters(node.args)
        if node.returns is not None:
            self._annotation(node.returns)
        frame = _Frame()
        self._frames.append(frame)
        self._run(node.body)
        self._frames.pop()
        self._require(not (frame.yields and frame.tries))
        return OBJECT | (frame.returns | (OBJECT if frame.yields else PLAIN)) << LEVEL

    def _parameters(self, arguments: ast.arguments) -> None:
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for argument in every:
            if argument is not None and argument.annotation is not None:
                self._annotation(argument.annotation)
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self._plain(default)

    def _class(self, node: ast.ClassDef) -> None:
        self._require(not node.keywords and not node.decorator_list)
        for base in node.bases:
            path = self._path(base)
            is_own = isinstance(base, ast.Name) and base.id in self._classes
            self._require(is_own or path in ("object", "dict", "list", "Exception") or path in EXCEPTIONS)
        for statement in node.body:
            match statement:
                case ast.FunctionDef():
                    arguments = statement.args
                    for inner in (*arguments.defaults, *arguments.kw_defaults, *statement.decorator_list):
                        self._names_no_method(inner)
                    self._method(statement)
                case ast.Assign(value=value) | ast.AnnAssign(value=value):
                    if value is not None:
                        self._names_no_method(value)
                        self._plain(value)
                    self._run([statement])
                case ast.Pass() | ast.Expr(value=ast.Constant()):
                    pass
                case _:
                    raise _UnprovenError

    def _names_no_method(self, node: Any) -> None:
        """Check that an expression in the body of a class does not mean one of the functions that are defined there."""
        names = {inner.id for inner in _walk(node) if isinstance(inner, ast.Name)}
        self._require(not names & self._methods.keys())

    def _method(self, node: ast.FunctionDef) -> None:
        kind = self._function_kind(node, _OF_METHODS)
        returns = kind >> LEVEL
        if node.name.startswith("__") and node.name.endswith("__"):
            self._require(node.name in DUNDERS)
            self._require(returns == PLAIN or (node.name == "__iter__" and returns == OBJECT))
        decorators = node.decorator_list
        is_property = any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in decorators)
        self._require(not is_property or (returns == PLAIN and len(decorators) == 1))
        self._require(self._properties.setdefault(node.name, is_property) == is_property)
        self._learn(self._methods, node.name, kind)

    # Names that become bound.

    def _learn(self, table: dict[str, int], name: str, kind: int) -> None:
        known = table.get(name, PLAIN)
        if kind | known != known:
            table[name] = kind | known
            self._is_settled &= name not in self._used

    def _store(self, target: Any, value: Any) -> None:
        if isinstance(target, ast.Name):
            self._learn(self._names, target.id, self._kind(value))
        elif isinstance(target, ast.Tuple | ast.List):
            self._consume(value)
        else:
            self._plain(value)
        if isinstance(target, ast.Name) and target.id == "__slots__":
            # A slot for `__repr__` or `__hash__` would hide that the class shows addresses.
            names = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
            self._require(all(isinstance(name, ast.Constant) and not _is_dunder(str(name.value)) for name in names))
        else:
            self._bind(target)

    def _bind(self, target: Any) -> None:
        match target:
            case ast.Name(id=name):
                self._require(not _is_dunder(name))
            case ast.Tuple() | ast.List():
                for element in target.elts:
                    self._bind(element)
            case ast.Starred():
                self._bind(target.value)
            case ast.Subscript():
                self._subscript(target)
            case ast.Attribute(value=base, attr=name):
                is_class = isinstance(base, ast.Name) and base.id in self._classes
                self._require(not _is_dunder(name) and (is_class or self._is_decimal_context(base)))
            case _:
                raise _UnprovenError

    def _is_decimal_context(self, node: Any) -> bool:
        """Check whether an attribute of this may be set: it is a plain value, or the context that is reset."""
        kind = self._kind(node)
        return kind == PLAIN or (isinstance(node, ast.Call) and self._path(node.func) == "decimal.getcontext")

    # Expressions.

    def _kind(self, node: Any) -> int:
        return self._expressions.get(node.__class__, _unproven)(self, node)

    def _plain(self, node: Any) -> int:
        self._require(self._kind(node) == PLAIN)
        return PLAIN

    def _consume(self, node: Any) -> None:
        """Check a value that is only iterated over or called, and whose elements or results are stored."""
        kind = self._kind(node)
        self._require(not kind & (UNORDERED | NO_CALLS) and not kind >> LEVEL)

    def _require(self, holds: bool) -> None:
        if not holds:
            raise _UnprovenError

    def _constant(self, node: ast.Constant) -> int:
        return PLAIN

    def _name(self, node: ast.Name) -> int:
        return self._name_kind(node.id)

    def _name_kind(self, name: str) -> int:
        self._used.add(name)
        if name in self._bound:
            is_builtin = hasattr(builtins, name)
            return self._names.get(name, PLAIN) | (self._path_kind(name) if is_builtin else PLAIN)
        return self._path_kind(self._imported.get(name, name))

    def _path_kind(self, path: str) -> int:
        if path in CONSTANTS:
            return PLAIN
        if path in CALLEES:
            return OBJECT | self._returns(CALLEES[path]) << LEVEL
        if path == "type":
            return OBJECT | NO_CALLS
        if path in STREAMS or path in TYPES:
            return OBJECT
        if path in EXCEPTIONS or path in RAISED_ONLY:
            return OBJECT | OBJECT << LEVEL
        raise _UnprovenError

    def _path(self, node: Any) -> str | None:
        """Return the path of something that the program did not make, such as `math.gcd` or `len`; else None."""
        if isinstance(node, ast.Name):
            if node.id in self._imported:
                return self._imported[node.id]
            return None if node.id in self._bound else node.id
        if isinstance(node, ast.Attribute):
            base = self._path(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    def _returns(self, callee: Callee) -> int:
        return PLAIN if callee.returns == SET and not self._has_floats else callee.returns

    def _attribute(self, node: ast.Attribute) -> int:
        path, name = self._path(node), node.attr
        if path is not None and (path in CALLEES or path in CONSTANTS or path in STREAMS):
            return self._path_kind(path)
        base_path = self._path(node.value)
        if base_path in STREAMS or base_path in TYPES:
            return self._method_kind(name)
        is_class = isinstance(node.value, ast.Name) and node.value.id in self._classes
        base = PLAIN if is_class else self._kind(node.value)
        if self._properties.get(name) or (name in self._attributes and name not in self._methods):
            self._require(base == PLAIN and name not in ATTRIBUTES_OF_VALUES and not _is_dunder(name))
            # On the class, the name of a property or of a slot means a descriptor, whose text or hash is an address.
            self._require(not is_class or not (self._properties.get(name) or "__slots__" in self._bound))
            return PLAIN
        self._require_method(base, name)
        return self._method_kind(name, own=base == PLAIN)

    def _method_kind(self, name: str, own: bool = False) -> int:
        """Return the kind of a bound method; `own` says whether it may be one of the program's."""
        self._used.add(name)
        self._require(name in METHODS or (own and name in self._methods and not _is_dunder(name)))
        kind = self._methods.get(name, PLAIN) if own else PLAIN
        return kind | (OBJECT | self._returns(METHODS[name]) << LEVEL if name in METHODS else PLAIN)

    def _subscript(self, node: ast.Subscript) -> int:
        self._require(not self._kind(node.value) & NO_ITEMS)
        return self._plain(node.slice)

    def _slice(self, node: ast.Slice) -> int:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self._plain(part)
        return PLAIN

    def _display(self, node: ast.List | ast.Tuple) -> int:
        for element in node.elts:
            self._consume(element.value) if isinstance(element, ast.Starred) else self._plain(element)
        return PLAIN

    def _set_display(self, node: ast.Set) -> int:
        for element in node.elts:
            self._consume(element.value) if isinstance(element, ast.Starred) else self._plain(element)
        return SET if self._has_floats else PLAIN

    def _dict(self, node: ast.Dict) -> int:
        for part in (*node.keys, *node.values):
            if part is not None:
                self._plain(part)
        return PLAIN

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> int:
        for generator in node.generators:
            self._bind(generator.target)
            self._consume(generator.iter)
            for condition in generator.ifs:
                self._kind(condition)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self._plain(part)
        if isinstance(node, ast.GeneratorExp):
            return OBJECT
        return SET if isinstance(node, ast.SetComp) and self._has_floats else PLAIN

    def _lambda(self, node: ast.Lambda) -> int:
        self._parameters(node.args)
        self._frames.append(_Frame())
        returns = self._kind(node.body)
        self._require(not self._frames.pop().yields)
        return OBJECT | returns << LEVEL

    def _yield(self, node: ast.Yield) -> int:
        self._frames[-1].yields = True
        return PLAIN if node.value is None else self._plain(node.value)

    def _yield_from(self, node: ast.YieldFrom) -> int:
        self._frames[-1].yields = True
        self._consume(node.value)
        return PLAIN

    def _both(self, node: ast.BinOp) -> int:
        self._plain(node.left)
        return self._plain(node.right)

    def _unary(self, node: ast.UnaryOp) -> int:
        kind = self._kind(node.operand)
        self._require(kind == PLAIN or isinstance(node.op, ast.Not))
        return PLAIN

    def _choice(self, node: ast.BoolOp) -> int:
        kind = PLAIN
        for value in node.values:
            kind |= self._kind(value)
        return kind

    def _if_else(self, node: ast.IfExp) -> int:
        self._kind(node.test)
        return self._kind(node.body) | self._kind(node.orelse)

    def _compare(self, node: ast.Compare) -> int:
        left = self._kind(node.left)
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            right = self._kind(operand)
            match operator:
                case ast.In() | ast.NotIn():
                    self._require(left == PLAIN)
                case ast.Is() | ast.IsNot():
                    pass
                case _:
                    self._require((left == PLAIN) == (right == PLAIN) and self._is_comparable(left))
            left = right
        return PLAIN

    def _is_comparable(self, kind: int) -> bool:
        """Check whether values of a kind may be compared with each other.

        Where some are opaque and others are instances, a method of the program could receive an opaque one.
        """
        return kind == PLAIN or not self._methods.keys() & _COMPARISONS

    def _named(self, node: ast.NamedExpr) -> int:
        self._bind(node.target)
        return self._plain(node.value)

    def _formatted(self, node: ast.FormattedValue) -> int:
        if node.format_spec is not None:
            self._plain(node.format_spec)
        return self._plain(node.value)

    def _joined(self, node: ast.JoinedStr) -> int:
        for value in node.values:
            self._plain(value)
        return PLAIN

    # Calls.

    def _call(self, node: ast.Call) -> int:
        path = self._path(node.func)
        if path is not None and path in self._special_calls:
            return self._special_calls[path](self, node)
        if isinstance(node.func, ast.Attribute) and (path is None or path not in CALLEES):
            return self._method_call(node, node.func)
        kind = self._kind(node.func)
        self._require(not kind & NO_CALLS)
        self._arguments(node, CALLEES.get(path or "", Callee()))
        return kind >> LEVEL

    def _method_call(self, node: ast.Call, method: ast.Attribute) -> int:
        name = method.attr
        if self._path(getattr(method.value, "func", None)) == "super":
            self._kind(method.value)
            # Other names with underscores would lead to the text or the hash that `object` gives, which are addresses.
            self._require(name == "__init__" or (not _is_dunder(name) and (name in self._methods or name in METHODS)))
            self._arguments(node, Callee())
            builtin = self._returns(METHODS[name]) if name in METHODS else PLAIN
            return self._methods.get(name, PLAIN) >> LEVEL | builtin
        if name == "format":
            self._require(isinstance(method.value, ast.Constant) and _has_plain_fields(method.value.value))
            self._arguments(node, Callee())
            return PLAIN
        is_data = name in self._attributes and name not in self._methods
        kind = self._attribute(method) if not (is_data and name in METHODS) else self._builtin_method(method)
        is_own = name in self._methods or self._path(method.value) in TYPES
        self._arguments(node, Callee() if is_own else METHODS.get(name, Callee()))
        return kind >> LEVEL

    def _builtin_method(self, method: ast.Attribute) -> int:
        """Return the kind of a method that has the name of an attribute of the program."""
        self._require_method(self._kind(method.value), method.attr)
        return self._method_kind(method.attr)

    def _require_method(self, base: int, name: str) -> None:
        """Check that a builtin method does not show the order of a set, or hand on a value that must not be stored."""
        self._require(name in SET_METHODS if base & UNORDERED else base == PLAIN or name != "copy")

    def _arguments(self, node: ast.Call, callee: Callee) -> None:
        is_counted = not callee.is_alone or len(node.args) == 1
        for position, argument in enumerate(node.args):
            if isinstance(argument, ast.Starred):
                self._consume(argument.value)
                is_counted = False  # what follows may stand at any position
            elif not (is_counted and position in callee.takes):
                self._plain(argument)
            elif callee.orders:
                self._consume(argument)
            else:
                self._kind(argument)
        for keyword in node.keywords:
            if (keyword.arg or "") not in callee.keywords:
                self._plain(keyword.value)
            elif keyword.arg == "key":
                self._key(keyword.value)
            else:
                self._kind(keyword.value)

    def _key(self, node: Any) -> None:
        """Check a function whose results are compared with each other, or with a value of the program."""
        is_ordering = isinstance(node, ast.Call) and self._path(node.func) == "functools.cmp_to_key"
        self._require(self._is_comparable(self._kind(node) >> LEVEL) or is_ordering)

    def _deepcopy_call(self, node: ast.Call) -> int:
        """Check that this copies only: a second argument would be filled with addresses."""
        self._require(len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred))
        return self._plain(node.args[0])

    def _type_call(self, node: ast.Call) -> int:
        """Check that this asks for a type: with more arguments, `type` would make one that is not watched."""
        self._require(len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred))
        self._plain(node.args[0])
        return OBJECT

    def _isinstance_call(self, node: ast.Call) -> int:
        self._require(len(node.args) == 2 and not node.keywords)
        self._plain(node.args[0])
        types = node.args[1]
        for type_ in types.elts if isinstance(types, ast.Tuple) else [types]:
            self._require(isinstance(type_, ast.Name | ast.Attribute))
            self._kind(type_)
        return PLAIN

    def _defaultdict_call(self, node: ast.Call) -> int:
        """Return the kind of a defaultdict, whose text shows the address of its factory unless that is a type."""
        self._arguments(node, CALLEES["collections.defaultdict"])
        return PLAIN if not node.args or self._path(node.args[0]) in _FACTORIES else OPAQUE

    # Annotations, which are expressions of types.

    def _annotation(self, node: Any) -> None:
        match node:
            case ast.Constant(value=str() as text):
                self._annotation(_parse(text))
            case ast.Constant():
                pass
            case ast.Name(id=name) if name in self._classes:
                pass
            case ast.Name() | ast.Attribute():
                path = self._path(node)
                module, _, name = (path or "").rpartition(".")
                is_generic = module in ("typing", "collections.abc") and name in ANNOTATIONS
                self._require(is_generic or path in TYPES or path in _FACTORIES)
            case ast.Subscript():
                self._annotation(node.value)
                self._annotation(node.slice)
            case ast.Tuple() | ast.List():
                for element in node.elts:
                    self._annotation(element)
            case ast.BinOp(op=ast.BitOr()):
                self._annotation(node.left)
                self._annotation(node.right)
            case _:
                raise _UnprovenError

    # What reads which construct. Any other construct is not proven.

    _collectors: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        ast.Attribute: _collect_attribute,
        ast.AugAssign: _collect_operation,
        ast.BinOp: _collect_operation,
        ast.ClassDef: _collect_class,
        ast.Constant: _collect_constant,
        ast.ExceptHandler: _collect_handler,
        ast.FunctionDef: _collect_function,
        ast.Import: _collect_imports,
        ast.ImportFrom: _collect_imports,
        ast.Name: _collect_name,
        ast.arg: _collect_parameter,
    }
    _special_calls: ClassVar[dict[str, Callable[[Any, ast.Call], int]]] = {
        "isinstance": _isinstance_call,
        "collections.defaultdict": _defaultdict_call,
        "copy.deepcopy": _deepcopy_call,
        "type": _type_call,
    }
    _statements: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        ast.AnnAssign: _annotated,
        ast.Assert: _assert,
        ast.Assign: _assign,
        ast.AugAssign: _augmented,
        ast.Break: _nothing,
        ast.ClassDef: _class,
        ast.Continue: _nothing,
        ast.Delete: _delete,
        ast.Expr: _expression,
        ast.For: _for,
        ast.FunctionDef: _function,
        ast.Global: _nothing,
        ast.If: _branch,
        ast.Import: _nothing,
        ast.ImportFrom: _nothing,
        ast.Nonlocal: _nothing,
        ast.Pass: _nothing,
        ast.Raise: _raise,
        ast.Return: _return,
        ast.Try: _try,
        ast.While: _branch,
    }
    _expressions: ClassVar[dict[type, Callable[[Any, Any], int]]] = {
        ast.Attribute: _attribute,
        ast.BinOp: _both,
        ast.BoolOp: _choice,
        ast.Call: _call,
        ast.Compare: _compare,
        ast.Constant: _constant,
        ast.Dict: _dict,
        ast.DictComp: _comprehension,
        ast.FormattedValue: _formatted,
        ast.GeneratorExp: _comprehension,
        ast.IfExp: _if_else,
        ast.JoinedStr: _joined,
        ast.Lambda: _lambda,
        ast.List: _display,
        ast.ListComp: _comprehension,
        ast.Name: _name,
        ast.NamedExpr: _named,
        ast.Set: _set_display,
        ast.SetComp: _comprehension,
        ast.Slice: _slice,
        ast.Subscript: _subscript,
        ast.Tuple: _display,
        ast.UnaryOp: _unary,
        ast.Yield: _yield,
        ast.YieldFrom: _yield_from,
    }


_COMPARISONS = frozenset(("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"))
_MANGLED = re.compile("_[^_].*__")
"""What the interpreter makes of a name such as `__name` within a class. The proof takes names as they are written."""
_CACHES = frozenset(("functools.cache", "functools.lru_cache"))
_OF_METHODS = _CACHES | {"property", "staticmethod"}
_FACTORIES = frozenset(
    {"int", "float", "str", "bool", "list", "dict", "tuple", "set"}
    | {f"collections.{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")}
)
_FLOAT_MATH = frozenset(
    path.removeprefix("math.")
    for path in {*CALLEES, *CONSTANTS}
    if path.startswith("math.") and path.removeprefix("math.") not in INTEGER_MATH
)


def _unproven(proof: _Proof, node: Any) -> Any:
    raise _UnprovenError


_FIELDS = {
    kind: tuple(name for name in kind._fields if name not in ("ctx", "op", "ops", "id", "attr"))
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST) and kind not in (ast.Constant, ast.Name)
}
"""Fields of a node that may hold nodes, by its type."""


def _walk(tree: Any) -> Iterator[Any]:
    """Yield all nodes below one, and also the names that are among their fields."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        for name in _FIELDS.get(node.__class__, ()):
            value = getattr(node, name, None)
            if isinstance(value, list):
                pending += value
            elif value is not None:
                pending.append(value)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _parse(annotation: str) -> Any:
    """Return the expression in a quoted annotation, which `values.shapes` evaluates."""
    try:
        tree: Any = compile(annotation, "main.py", "eval", _ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError):
        raise _UnprovenError from None
    return tree.body


def _public_names(module: str) -> list[str]:
    if module not in MODULES:
        raise _UnprovenError
    contents = vars(importlib.import_module(module))
    return list(contents.get("__all__") or (name for name in contents if not name.startswith("_")))


def _may_make_floats(node: ast.BinOp | ast.AugAssign) -> bool:
    if isinstance(node.op, ast.Pow):
        exponent = node.right if isinstance(node, ast.BinOp) else node.value
        return not (isinstance(exponent, ast.Constant) and isinstance(exponent.value, int) and exponent.value >= 0)
    return isinstance(node.op, ast.Div)


def _has_plain_fields(template: object) -> bool:
    """Check whether a format string only has fields without attributes and items."""
    if not isinstance(template, str):
        return False
    with contextlib.suppress(ValueError):
        return all(
            field is None or ((field.replace("_", "a").isalnum() or not field) and "{" not in (spec or ""))
            for _, field, spec, _ in string.Formatter().parse(template)
        )
    return False
