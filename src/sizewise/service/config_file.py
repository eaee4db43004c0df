"""The file of `serve --config`: models, policy, keys, guard, documents and the server's settings, in TOML."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from sizewise.errors import SizewiseError
from sizewise.models import Engine
from sizewise.models.signal_classifier import MAX_FALSE_SIGNALS
from sizewise.service.backends import MAX_CONCURRENT, Backend, BackendSettings, Price, Zone
from sizewise.service.guarding import GuardRules, Part
from sizewise.service.lookups import Lookup

_COMMAND = "sizewise serve --config FILE"


def _from_folder(path: Path, info: ValidationInfo) -> Path:
    """Read a path relative to the folder of the file."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / path.expanduser()


NearFile = Annotated[Path, AfterValidator(_from_folder)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSection(_Section):
    """Address, encryption, processes and logs."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64)
    """Processes that share the port; each opens the models itself."""
    keys: NearFile | None = None
    """File of API keys; required unless `host` is this machine."""
    allowed_hosts: tuple[str, ...] = ()
    """Host headers that are accepted besides those of the address, such as the name that a proxy keeps."""
    root_path: str = Field("", pattern=r"^(/[\w.~-]+)*$")
    """Path prefix that a proxy in front removes."""
    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1",)
    """Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed."""
    tls_certificate: NearFile | None = None
    tls_key: NearFile | None = None
    log: Literal["text", "json"] = "text"
    """`json`: one line for each request and warning."""
    timeout_s: float = Field(600.0, gt=0, le=3_600)
    """Maximum duration of a response."""
    drain_s: int = Field(30, ge=0, le=3_600)
    """Seconds that running answers have to finish after SIGTERM."""
    lenient: bool = False
    usage_database: str = ""
    """SQLAlchemy URL of the database of usage; empty: SQLite in SIZEWISE_HOME."""

    @model_validator(mode="after")
    def _check_tls(self) -> ServerSection:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together")
        return self


class StartSection(_Section):
    """Engines that the service starts, supervises and stops."""

    command: tuple[str, ...] = Field(min_length=1)
    """Program and arguments of a server with OpenAI's API; `{port}` is replaced by a free port."""
    model: str = Field(min_length=1)
    """The engine's name of the model."""
    replicas: int = Field(1, ge=1, le=64)
    env: dict[str, str] = {}
    """Environment variables to add; `{port}` is replaced here, too."""
    hung_s: float = Field(120.0, ge=0)
    """Seconds without an answer after which an engine that has answered before is started again; 0: never."""

    @model_validator(mode="after")
    def _check_port(self) -> StartSection:
        if not any("{port}" in part for part in (*self.command, *self.env.values())):
            raise ValueError("command or env must contain {port}, the port on which the engine listens")
        return self


class ModelSection(_Section):
    """A model, on this machine or behind an API."""

    name: str = Field(min_length=1, max_length=100)
    """Name that clients use."""
    uri: str = ""
    replicas: tuple[str, ...] = ()
    """URIs of further servers with the same model; the least loaded one that works answers."""
    start: StartSection | None = None
    """Engines to start, instead of a URI."""
    engine: Engine = "auto"
    as_measured: str | None = None
    """Evaluation whose prompting is used."""
    key_env: str = ""
    """Environment variable of the server's API key."""
    zone: Zone | None = None
    """Of a model behind an API: whether it may see personal data and confidential text. Not stated: `inside` for
    engines that the service starts, else `outside`."""
    usd_per_million_input_tokens: float | None = Field(None, ge=0)
    usd_per_million_output_tokens: float | None = Field(None, ge=0)
    usd_per_day: float | None = Field(None, gt=0)
    """Budget of all clients together."""
    max_concurrent: int = Field(MAX_CONCURRENT, ge=1, le=10_000)
    unchecked_content: bool = False
    hosted_tools: bool = False

    @model_validator(mode="after")
    def _check_servers(self) -> ModelSection:
        if (self.start is None) == (not self.uri):
            raise ValueError("a model has either a uri or a table [model.start]")
        if self.replicas and (self.start is not None or not is_api(self.uri)):
            raise ValueError("replicas are further servers of a model behind an API")
        if any(uri.partition(":")[0] != self.uri.partition(":")[0] for uri in self.replicas):
            raise ValueError("uri and replicas must be of one kind")
        return self

    @model_validator(mode="after")
    def _check_price(self) -> ModelSection:
        if (self.usd_per_million_input_tokens is None) != (self.usd_per_million_output_tokens is None):
            raise ValueError("usd_per_million_input_tokens and usd_per_million_output_tokens must be given together")
        return self

    @property
    def opening(self) -> tuple[str, ...]:
        """What the open model depends on; a reload keeps it if this stays the same."""
        return self.uri, self.engine, self.key_env

    @property
    def api_key(self) -> str:
        """The server's API key.

        Raises:
            SizewiseError: its environment variable isn't set.
        """
        if not self.key_env:
            return ""
        key = os.environ.get(self.key_env, "")
        if not key:
            raise SizewiseError(
                f"{self.key_env}, which model '{self.name}' needs, is not set.",
                "an API key in this environment variable",
                f"export {self.key_env}=...",
            )
        return key

    def backend(self) -> BackendSettings:
        """Return the settings of the server behind the model."""
        given = self.usd_per_million_input_tokens, self.usd_per_million_output_tokens
        price = None if given[0] is None or given[1] is None else Price(given[0], given[1])
        return BackendSettings(
            api_key=self.api_key,
            zone=self.zone or ("outside" if self.start is None else "inside"),
            price=price,
            usd_per_day=self.usd_per_day,
            max_concurrent=self.max_concurrent,
            unchecked_content=self.unchecked_content,
            hosted_tools=self.hosted_tools,
            replicas=self.replicas,
        )


def is_api(uri: str) -> bool:
    """Whether a URI names a model behind an API."""
    return uri.partition(":")[0] in Backend.KINDS


class RoutingSection(_Section):
    """Routing of the model `auto` between the first two models."""

    policy: NearFile | None = None
    shadow: float = Field(0.0, ge=0, le=1)
    decide_at: tuple[float, float] | None = None


class GuardSection(_Section):
    """What happens to text for models outside."""

    confidential: tuple[str, ...] = ()
    disabled: tuple[Part, ...] = ()
    refuse_signals: bool = False
    detect: tuple[str, ...] = ()
    """Detectors beside the patterns, such as `names`."""
    signal_classifier: str = ""
    """Classifier that recognizes attacks beside the rules, such as `run:classifier-68c8153a0c`."""
    max_false_signals: float = Field(MAX_FALSE_SIGNALS, gt=0, lt=1)

    def rules(self) -> GuardRules:
        """Return the rules of the guard."""
        return GuardRules.without(
            self.disabled,
            self.confidential,
            self.refuse_signals,
            self.detect,
            signal_classifier=self.signal_classifier,
            max_false_signals=self.max_false_signals,
        )


class DocumentsSection(_Section):
    """Documents of the support agent."""

    path: NearFile
    min_confidence: float = Field(0.5, ge=0, le=1)
    draft: bool = False
    """Whether staff check each answer before the customer gets it."""
    lookup: tuple[Lookup, ...] = ()
    """Facts about customers that the agent may look up."""


class ServiceConfig(_Section):
    """A whole service."""

    server: ServerSection = ServerSection()
    model: tuple[ModelSection, ...] = Field(min_length=1)
    routing: RoutingSection = RoutingSection()
    guard: GuardSection = GuardSection()
    documents: DocumentsSection | None = None

    @model_validator(mode="after")
    def _check_names(self) -> ServiceConfig:
        names = [model.name for model in self.model]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two models are named '{twice}'")
        if self.routing.policy is not None and len(names) < 2:
            raise ValueError("a routing policy needs two models")
        return self


def load_config(path: Path) -> ServiceConfig:
    """Read the file of a service. Paths in it are relative to its folder.

    Raises:
        SizewiseError: the file can't be read, or a setting is unknown or not valid.
    """
    try:
        written: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return ServiceConfig.model_validate(written, context={"folder": path.resolve().parent})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = "unknown setting" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise SizewiseError(
            f"{path}: {place or 'the file'}: {what}.",
            "tables [server], [[model]], [model.start], [routing], [guard] and [documents]",
            _COMMAND,
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SizewiseError(f"{path} can't be read: {reason}.", "a TOML file", _COMMAND) from error
