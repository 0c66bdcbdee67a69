"""Make settings of flags, the environment, a file and defaults.

A flag wins over the environment (`ACCRETE_SERVER__PORT`), that over the file, that over the preset, that over the
defaults. Each section is the dataclass of the package it configures.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from accrete_kit.addresses import is_loopback
from accrete_learner.config import DeepConfig, MethodConfig, ModelConfig, TrainingConfig
from accrete_learner.memory.config import MemoryConfig
from accrete_learner_service.config import GateConfig, LearnerServiceConfig, TriggerConfig
from accrete_model.config import ArtifactsConfig, EngineConfig
from accrete_model.input_spec import InputSpec
from accrete_node import presets
from accrete_node.cluster_config import ClusterConfig
from accrete_node.renamed_settings import with_current_names
from accrete_page.config import PageConfig
from accrete_server.access.config import AccessConfig, check_exposure
from accrete_server.config import ServerConfig
from accrete_server.inbox.config import InboxConfig
from accrete_storage.config import HoldoutConfig, StoreConfig, TeachingConfig
from accrete_storage.store_url import shown

SECTIONS_OF_LEARNER = ("trigger", "gate", "method", "model", "training", "deep", "memory", "teaching")
"""Fields of LearnerServiceConfig that are sections of their own here, by the same name."""
FILE_NAME = "accrete.toml"


class SettingsError(Exception):
    """Settings cannot be used. `problems` has a line for each, with the field, its value and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """What the processes tell on standard error, one line an event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is told; info: what an operator wants to know of the last day."""
    format: Literal["auto", "json", "text"] = "auto"
    """"json" for machines, "text" for people; "auto": text on a terminal, json elsewhere."""


def _known(section: type, without: tuple[str, ...] = ()) -> BeforeValidator:
    """Refuse fields that a section does not have, for a misspelt one must not be passed over.

    A flag has a list as text, with commas between.
    """
    lists = {item.name for item in dataclasses.fields(section) if isinstance(item.default, tuple)}
    names = [item.name for item in dataclasses.fields(section) if item.name not in without]

    def check(value: Any) -> Any:
        unknown = [name for name in value if name not in names] if isinstance(value, Mapping) else []
        if unknown:
            there_are = f"no such field; there are {', '.join(names)}"
            raise ValueError("\n".join(f"{name} = {_shown(name, value[name])}: {there_are}" for name in unknown))
        if isinstance(value, Mapping) and lists:
            return {name: _listed(item) if name in lists else item for name, item in value.items()}
        return value

    return BeforeValidator(check)


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.strip("[]").split(",") if part.strip()]


class Settings(BaseSettings):
    """All settings, checked."""

    model_config = SettingsConfigDict(
        env_prefix="ACCRETE_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    data_dir: Path = Field(
        Path("accrete-data"),
        description="Folder of everything that must last: the embedded store, the versions. Keep it on a local disk.",
    )
    preset: Annotated[
        presets.Preset,
        Field(
            description="Settings that go together: photographs, embeddings (vectors that the application computes), "
            "digits, cifar (the papers' networks and schedules). A data directory keeps the one that it was begun with."
        ),
    ] = presets.DEFAULT
    store: Annotated[StoreConfig, _known(StoreConfig)] = StoreConfig()
    model: Annotated[ModelConfig, _known(ModelConfig)] = ModelConfig()
    engine: Annotated[EngineConfig, _known(EngineConfig)] = EngineConfig()
    artifacts: Annotated[ArtifactsConfig, _known(ArtifactsConfig)] = ArtifactsConfig()
    server: Annotated[ServerConfig, _known(ServerConfig)] = ServerConfig()
    access: Annotated[AccessConfig, _known(AccessConfig)] = AccessConfig()
    teaching: Annotated[TeachingConfig, _known(TeachingConfig)] = TeachingConfig()
    inbox: Annotated[InboxConfig, _known(InboxConfig)] = InboxConfig()
    method: Annotated[MethodConfig, _known(MethodConfig)] = MethodConfig()
    training: Annotated[TrainingConfig, _known(TrainingConfig)] = TrainingConfig()
    deep: Annotated[DeepConfig, _known(DeepConfig)] = DeepConfig()
    memory: Annotated[MemoryConfig, _known(MemoryConfig)] = MemoryConfig()
    holdout: Annotated[HoldoutConfig, _known(HoldoutConfig)] = HoldoutConfig()
    trigger: Annotated[TriggerConfig, _known(TriggerConfig)] = TriggerConfig()
    gate: Annotated[GateConfig, _known(GateConfig)] = GateConfig()
    learner: Annotated[LearnerServiceConfig, _known(LearnerServiceConfig, SECTIONS_OF_LEARNER)] = LearnerServiceConfig()
    page: Annotated[PageConfig, _known(PageConfig)] = PageConfig()
    cluster: Annotated[ClusterConfig, _known(ClusterConfig)] = ClusterConfig()
    log: Annotated[LogConfig, _known(LogConfig)] = LogConfig()

    @property
    def input_spec(self) -> InputSpec:
        """The form of one input of the model."""
        return self.model.input_spec

    @property
    def learner_service(self) -> LearnerServiceConfig:
        """The learner's settings with their sections put together."""
        return dataclasses.replace(self.learner, **{name: getattr(self, name) for name in SECTIONS_OF_LEARNER})

    @property
    def serves_page(self) -> bool:
        """Whether a node serves a page: a server that lets in by certificate alone lets no page in."""
        return self.page.enabled and not self.access.client_ca


def load_settings(flags: Mapping[str, Any], file: Path | None = None, *, resolved: bool = False) -> Settings:
    """Return the settings of a process.

    Args:
        flags: nested like the file: `{"server": {"port": 0}}`.
        file: a TOML file; None: ACCRETE_CONFIG, else `accrete.toml` in the data directory if it is there.
        resolved: `file` has all that counts, and the environment is not looked at again.

    Raises:
        SettingsError: with every problem found.
    """
    path = _file(flags, file)
    if not resolved and (unknown := _unknown_variables()):
        raise SettingsError(unknown)
    try:
        below = {} if resolved else _preset(flags, path)
        settings = _with_sources(path, below, environment=not resolved)(**with_current_names(flags, source="flag"))
    except ValidationError as error:
        raise SettingsError([line for problem in error.errors() for line in _lines(problem)]) from error
    except (OSError, tomllib.TOMLDecodeError, ValueError) as error:
        raise SettingsError([f"{path or 'settings'}: {error}"]) from error
    _check_exposure(settings)
    _check_inbox(settings)
    return settings


def _check_exposure(settings: Settings) -> None:
    try:
        check_exposure(settings.server, settings.access)
    except ValueError as error:
        raise SettingsError([str(error)]) from error
    host = settings.learner.metrics_host
    if not is_loopback(host) and not settings.access.insecure:
        raise SettingsError(
            [
                f"learner.metrics_host = {host!r}: others than this machine can reach it, and the learner's page is "
                "not encrypted; set access.insecure = true (--insecure) where the network sees to it"
            ]
        )
    host = settings.page.host
    if settings.page.enabled and not (is_loopback(host) or settings.access.insecure or settings.access.certificate):
        raise SettingsError(
            [
                f"page.host = {host!r}: others than this machine can reach it, and nothing is encrypted; set "
                "access.certificate and access.private_key, or access.insecure = true (--insecure) where the network "
                "sees to it"
            ]
        )


def _check_inbox(settings: Settings) -> None:
    try:
        settings.inbox.check(settings.input_spec)
    except ValueError as error:
        raise SettingsError([str(error)]) from error


def _file(flags: Mapping[str, Any], file: Path | None) -> Path | None:
    named = file or os.environ.get("ACCRETE_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError([f"config = {str(path)!r}: no such file"])
        return path
    data_dir = Path(flags.get("data_dir") or os.environ.get("ACCRETE_DATA_DIR") or "accrete-data")
    path = data_dir / FILE_NAME
    return path if path.is_file() else None


def _unknown_variables() -> list[str]:
    """Return a line for each variable that looks like ours and sets nothing, since pydantic would pass over it.

    One underscore alone does not look like ours: others (Kubernetes, for a service of our name) set such variables.
    """
    sections = [name for name in Settings.model_fields if name not in ("data_dir", "preset")]
    problems = []
    for name, value in sorted(os.environ.items()):
        section, parts, _ = name.upper().removeprefix("ACCRETE_").partition("__")
        if not name.upper().startswith("ACCRETE_"):
            continue
        if parts and section.lower() not in sections:
            problems.append(f"{name} = {_shown(name, value)}: no such section; there are {', '.join(sections)}")
        elif not parts and section.lower() in sections:
            problems.append(f"{name} = {_shown(name, value)}: it is a section; its fields are set with {name}__FIELD")
    return problems


def _preset(flags: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    """Return the values of the preset that is named, or that the data directory was begun with, with its name.

    Raises:
        SettingsError: another preset is named than the data directory was begun with.
        ValueError: it was begun with one that is not known.
        OSError: a file cannot be read.
    """
    file = tomllib.loads(path.read_text("utf-8")) if path is not None else {}

    def named(name: str) -> Any:
        return flags.get(name) or os.environ.get(f"ACCRETE_{name.upper()}") or file.get(name)

    data_dir = Path(named("data_dir") or Settings.model_fields["data_dir"].default)
    asked, begun = named("preset"), presets.begun_with(data_dir)
    if asked and begun and asked != begun:
        raise SettingsError(
            [
                f"preset = {_shown('preset', asked)}: {str(data_dir)!r} was begun with {begun!r}; leave it out and set "
                "what is to differ, or use another data_dir"
            ]
        )
    chosen = asked or begun or presets.DEFAULT
    method = next((found for source in (flags, _environment(), file) if (found := _method(source))), None)
    return {"preset": chosen, **presets.values(chosen, method)}


def _environment() -> dict[str, Any]:
    return {"method": {"name": os.environ.get("ACCRETE_METHOD__NAME")}}


def _method(source: Mapping[str, Any]) -> str | None:
    section = source.get("method")
    return section.get("name") if isinstance(section, Mapping) else None


def _with_sources(path: Path | None, below: Mapping[str, Any], *, environment: bool) -> type[Settings]:
    """Return a class of settings that also reads the file and, below all else, the values `below`."""

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            sources: list[PydanticBaseSettingsSource] = [init_settings]
            if environment:
                sources.append(_Renaming(env_settings, "environment"))
            if path is not None:
                sources.append(_Renaming(TomlConfigSettingsSource(settings_cls, toml_file=path), str(path)))
            sources.append(InitSettingsSource(settings_cls, init_kwargs=dict(below)))
            return tuple(sources)

    return FromFile


class _Renaming(PydanticBaseSettingsSource):
    """A source whose values have the settings' current names."""

    def __init__(self, source: PydanticBaseSettingsSource, name: str) -> None:
        super().__init__(source.settings_cls)
        self._source = source
        self._name = name

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._source.get_field_value(field, field_name)

    def __call__(self) -> dict[str, Any]:
        return with_current_names(self._source(), source=self._name)


def _shown(name: str, value: Any) -> str:
    """Return a value as a message may show it: a password or a token is in none, wherever it was put by mistake."""
    return "***" if re.search("passw|secret|credential", name, re.IGNORECASE) else shown(repr(value))


def _lines(problem: Any) -> list[str]:
    """Return a problem as lines "section.field = value: what is allowed"."""
    where = ".".join(str(part) for part in problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    value = _shown(where, problem["input"])
    match problem["type"]:
        case "value_error":  # the dataclasses' own checks and ours name field and value themselves
            return [f"{where}.{line}" if " = " in line else f"{where}: {line}" for line in message.splitlines()]
        case "extra_forbidden":
            return [f"{where} = {value}: no such section; there are {', '.join(Settings.model_fields)}"]
        case "dataclass_type":
            return [f"{where} = {value}: it is a section; its fields are set as {where}.FIELD"]
        case _:
            return [f"{where} = {value}: {message[0].lower()}{message[1:]}"]
