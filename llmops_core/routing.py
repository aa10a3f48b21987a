"""What the gateway should do, as data: which deployments of a model get which share of its requests.

A deployment is one running server of one registered version. The route table is the whole desired state of the
gateway; applying the same table twice changes nothing.
"""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Environment = Literal["staging", "production"]


class Deployment(BaseModel):
    """One running server: `name` is unique per platform (model, version and a piece of the deployment fingerprint)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    version: str
    weights_digest: str
    host: str
    port: int = Field(ge=1, le=65535)
    timeout_seconds: float = Field(gt=0)


class Share(BaseModel):
    """A deployment and the percentage of its route's requests that it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployment: Deployment
    weight_percent: int = Field(ge=0, le=100)


class Route(BaseModel):
    """All requests for one model in one environment. Weights add up to 100."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    environment: Environment
    shares: tuple[Share, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _weights_cover_all_requests(self) -> Self:
        total = sum(share.weight_percent for share in self.shares)
        if total != 100:
            raise ValueError(f"weights of {self.model} in {self.environment} add up to {total}, not 100")
        names = [share.deployment.name for share in self.shares]
        if len(set(names)) != len(names):
            raise ValueError(f"a deployment of {self.model} in {self.environment} is named twice: {names}")
        return self


class RouteTable(BaseModel):
    """The gateway's desired state. One route for each (model, environment)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    routes: tuple[Route, ...] = ()

    @model_validator(mode="after")
    def _one_route_each(self) -> Self:
        keys = [(route.model, route.environment) for route in self.routes]
        if len(set(keys)) != len(keys):
            raise ValueError(f"more than one route for the same model and environment: {keys}")
        return self

    def route(self, model: str, environment: Environment) -> Route | None:
        return next((r for r in self.routes if (r.model, r.environment) == (model, environment)), None)

    def with_route(self, route: Route) -> "RouteTable":
        """A table in which `route` replaces any other of the same model and environment."""
        others = tuple(r for r in self.routes if (r.model, r.environment) != (route.model, route.environment))
        return RouteTable(routes=(*others, route))

    def with_addresses(self, deployments: Iterable[Deployment]) -> "RouteTable":
        """The same shares, those of these deployments at the addresses given here."""
        known = {one.name: one for one in deployments}

        def moved(share: Share) -> Share:
            return share.model_copy(update={"deployment": known.get(share.deployment.name, share.deployment)})

        return RouteTable(
            routes=tuple(r.model_copy(update={"shares": tuple(map(moved, r.shares))}) for r in self.routes)
        )

    def without_route(self, model: str, environment: Environment) -> "RouteTable":
        return RouteTable(routes=tuple(r for r in self.routes if (r.model, r.environment) != (model, environment)))
