"""The descriptors of the templates that are compiled in, so that adapters in other processes can take them too."""

from __future__ import annotations

import functools
from importlib import import_module

from mixer.adapters.remote.descriptors import TemplateModel, pack_descriptors, read_template


@functools.cache
def standard_descriptor(name: str) -> str:
    """What the ``descriptor`` of a `template` resource says for a compiled-in template.

    Raises:
        ModuleNotFoundError: There is no such template.
    """
    module = import_module(f"mixer.api.gen.mixer.template.{name}.template_handler_service_pb2")
    return pack_descriptors([module.DESCRIPTOR])


def standard_model(name: str) -> TemplateModel:
    """The model of a compiled-in template."""
    return read_template(standard_descriptor(name))
