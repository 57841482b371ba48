"""Imports our modules from texts that stand in one file. Every bundle holds a copy of this."""

import io
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any, cast


class BundleLoader:
    """Finds and runs the modules of one build, once for all steps of the process.

    Another step of the same build adds its texts to the loader that is there already, so that a
    module which was imported before is not run again. What another build has left in a process
    that outlived a deploy is forgotten first: two builds never mix.

    ``modules`` holds a path and a text by module name, ``files`` a text by path.
    """

    def __init__(self, build: str) -> None:
        self.build = build
        self.modules: dict[str, tuple[str, str]] = {}
        self.files: dict[str, str] = {}

    @classmethod
    def of(cls, build: str, roots: tuple[str, ...]) -> "BundleLoader":
        present: list[Any] = [f for f in sys.meta_path if type(f).__name__ == cls.__name__]
        for finder in present:
            if finder.build == build:
                return finder
            sys.meta_path.remove(finder)
            for name in [name for name in sys.modules if name.partition(".")[0] in roots]:
                del sys.modules[name]
        loader = cls(build)
        sys.meta_path.insert(0, loader)
        return loader

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        origin, loader = self.modules[name][0], cast(Any, self)
        spec = ModuleSpec(name, loader, origin=origin, is_package=origin.endswith("/__init__.py"))
        spec.has_location = True  # so that the module has a __file__
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        path, text = self.modules[module.__name__]
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name: str) -> str:
        return self.modules[name][1]  # tracebacks show its lines

    def get_resource_reader(self, name: str) -> Any:
        folder = self.modules[name][0].removesuffix("/__init__.py")
        return SimpleNamespace(files=lambda: _resource(self.files, folder))


def _resource(files: dict[str, str], path: str) -> Any:
    """A file or folder of data, as ``importlib.resources`` shows it."""
    from importlib.resources.abc import Traversable

    class Resource(Traversable):
        def __init__(self, path: str) -> None:
            self._path = path

        @property
        def name(self) -> str:
            return self._path.rpartition("/")[2]

        def is_file(self) -> bool:
            return self._path in files

        def is_dir(self) -> bool:
            return any(path.startswith(f"{self._path}/") for path in files)

        def iterdir(self) -> Any:
            start = f"{self._path}/"
            below = {p[len(start) :].partition("/")[0] for p in files if p.startswith(start)}
            return (Resource(start + name) for name in sorted(below))

        def joinpath(self, *names: str) -> Any:  # type: ignore[override]
            return Resource("/".join((self._path, *names)))

        def read_bytes(self) -> bytes:
            return files[self._path].encode()

        def read_text(self, encoding: str | None = None) -> str:
            return files[self._path]

        def open(self, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            stream = io.BytesIO(self.read_bytes())
            return stream if "b" in mode else io.TextIOWrapper(stream, *arguments, **options)

    return Resource(path)
