"""Numba's compiler, without the machine code that nobody would run.

What only compiled code calls is linked into its callers as LLVM's bitcode. They optimize it, with
their own code, and machine code is made of what Python calls alone. Numba would optimize and
translate each function by itself, with all that it calls. See docs/decisions/0031 and 0044.
"""

import gc
from typing import Any

from llvmlite import binding  # type: ignore[import-untyped]
from numba import _dynfunc
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.environment import lookup_environment
from numba.core.typed_passes import NativeLowering

_KIND = "linked"
"""How a library without machine code is told from Numba's own, which are `object`."""
_ENVIRONMENT = "_ZN08NumbaEnv"
"""Begin of the names of variables that hold the environment of a function."""


class _LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that only its callers run, once it is linked into theirs."""

    def _optimize_final_module(self) -> None:
        """Leave the code as the passes over each of its functions have made it."""

    def _finalize_final_module(self) -> None:
        """Make the code ready to be linked; machine code is made of nothing."""
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def serialize_using_object_code(self) -> tuple[str, str, bytes]:
        """Return what `rebuilt` takes, for the cache."""
        return self.name, _KIND, self._get_module_for_linking().as_bitcode()


@register_pass(mutates_CFG=True, analysis_only=False)
class _LinkedLowering(NativeLowering):  # type: ignore[misc]
    """Lowers a function into a library that is only linked."""

    _name = "linked_lowering"

    def run_pass(self, state: Any) -> bool:
        library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library = library
        state.flags.no_compile = True  # What Numba does from here on would need machine code.
        super().run_pass(state)
        library.finalize()
        lowered = state["cr"]
        entry = _entry_of(library, lowered.fndesc, lowered.env)
        state.targetctx.insert_user_function(entry, lowered.fndesc, [library])
        state.reload_init.extend(library._reload_init)
        state["cr"] = lowered._replace(cfunc=entry)
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class _SetEnvironments(AnalysisPass):  # type: ignore[misc]
    """Gives functions that were linked in their environment, which code that prints asks for."""

    _name = "set_environments"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        library = state.library
        for variable in library._final_module.global_variables:
            name = variable.name
            environment = lookup_environment(name) if name.startswith(_ENVIRONMENT) else None
            if environment is not None:
                library.codegen.set_env(name, environment)
        return False


class JitCompiler(CompilerBase):  # type: ignore[misc]
    """Compiles what Python calls."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, and one more."""
        self.state.flags.no_cpython_wrapper = False
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_SetEnvironments, NativeLowering)
        passes.finalize()
        return [passes]


class InnerCompiler(CompilerBase):  # type: ignore[misc]
    """Compiles what only compiled code calls."""

    def define_pipelines(self) -> list[Any]:
        """Return Numba's passes, with a lowering that stops before machine code."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        place = [each for each, _ in passes.passes].index(NativeLowering)
        passes.passes[place] = _LinkedLowering, "linked lowering"
        passes.finalize()
        return [passes]


class InlineCompiler(InnerCompiler):
    """Compiles what is copied into the body of each of its callers.

    Numba compiles `max` and its kin again for callers with other options, so this is none of them.
    """

    def define_pipelines(self) -> list[Any]:
        """Return the same, for code that asks to be copied."""
        self.state.flags.forceinline = True
        return super().define_pipelines()


def _entry_of(library: _LinkedLibrary, about: Any, environment: Any) -> Any:
    """Return what stands for a function in tables of Numba. It is never called."""
    name = about.qualname.split(".")[-1]
    return _dynfunc.make_function(about.lookup_module(), name, "", 0, environment, (library,))


def rebuilt(target: Any, parts: Any) -> Any:
    """Return a compiled function from what `CompileResult._reduce` made of it."""
    stored, about, environment, signature, *_, reload_init, referenced = parts
    name, kind, code = stored
    if kind != _KIND:
        return CompileResult._rebuild(target, *parts)
    for each in reload_init:
        each()
    library = _LinkedLibrary(target.codegen(), name)
    library._final_module = binding.parse_bitcode(code)
    library._finalize_final_module()
    return CompileResult(
        target_context=target,
        typing_context=target.typing_context,
        library=library,
        environment=environment,
        entry_point=_entry_of(library, about, environment),
        fndesc=about,
        type_annotation=None,
        signature=signature,
        objectmode=False,
        lifted=(),
        typing_error=None,
        call_helper=None,
        metadata=None,
        reload_init=reload_init,
        referenced_envs=referenced,
    )


class _Garbage(event.Listener):  # type: ignore[misc]
    """Collects no garbage while code is compiled, which makes much that is kept and little else.

    Looking for cycles in it took a tenth of the time. Numba holds its lock meanwhile.
    """

    def __init__(self) -> None:
        self._depth, self._was_enabled = 0, False

    def on_start(self, _event: Any) -> None:
        """Stop the collector as the first of nested functions begins."""
        if self._depth == 0:
            self._was_enabled = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, _event: Any) -> None:
        """Start it when that one ends."""
        self._depth -= 1
        if self._depth == 0 and self._was_enabled:
            gc.enable()


event.register("numba:compile", _Garbage())
