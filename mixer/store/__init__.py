"""Where configuration comes from: resources, problems, the models they decode onto, and the stores."""

from mixer.store.base import Store, StoreContents
from mixer.store.file import FileStore
from mixer.store.problem import FieldError, Problem, Severity, format_path
from mixer.store.resource import Origin, Path, Resource, ResourceKey

__all__ = [
    "FieldError",
    "FileStore",
    "Origin",
    "Path",
    "Problem",
    "Resource",
    "ResourceKey",
    "Severity",
    "Store",
    "StoreContents",
    "format_path",
]
