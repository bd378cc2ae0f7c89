"""`balance`: groups of rows in better proportion, by a column, by clusters that are found, or by file.

Rows that `split` calls other than train are no part of it: they stay as they are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from whet.data.curation.contract import Decision, Record, Rows, SetStep
from whet.data.curation.texts import joined
from whet.data.steps import clusters as kmeans
from whet.errors import RowError, did_you_mean
from whet.recipe.part import Part

SAMPLE = 20_000
"""Clusters are found on so many rows."""
TOLD = 30
"""So many groups are told apart in notes and plot; the smaller ones are summed."""
NONE = "(none)"


class BalanceSettings(Part):
    """By what, and how far."""

    by: str
    """A column, dotted where it is nested (`meta.source`); `clusters`; or `file`, the one that a row came from."""
    clusters: Annotated[int, Field(ge=2, le=500)] = 20
    """How many, by `clusters`."""
    cap: Annotated[float, Field(gt=0)] | None = None
    """The most rows of a group; below 1, the largest share of the result that a group may have."""
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    """Groups get shares in proportion to size ** temperature: 1 as they are, 0 all alike."""
    upsample: bool = False
    """Copy rows of groups that are smaller than they should be: than the largest one, or than temperature says."""
    max_copies: Annotated[int, Field(ge=1)] = 10
    """A row is written so often at most, a few examples being no substitute for many; a weight grows no further."""
    action: Literal["rows", "weight"] = "rows"
    """Drop and copy rows, or keep all and write `weight`, which multiplies a row's loss."""

    @model_validator(mode="after")
    def _something(self) -> BalanceSettings:
        if self.cap is None and self.temperature is None and not self.upsample:
            raise ValueError("give `cap`, `temperature` or `upsample: true`: what should change")
        if self.cap is not None and self.cap > 1 and self.cap != int(self.cap):
            raise ValueError("`cap` is a number of rows, or a share below 1")
        return self


class Balance(SetStep):
    """Bring groups of rows into proportion."""

    settings = BalanceSettings

    def schema(self) -> pa.Schema:
        """None before the clusters are found. A null group: a row that is no part of it."""
        if self.set.by == "clusters" and self.state is None:
            return pa.schema([])
        return pa.schema([("group", pa.string()), ("weight", pa.float64())])

    def features(self, records: Sequence[Record]) -> dict[str, Any]:
        if self.set.by == "clusters":
            found, named = self.state
            texts = [joined(record.row, self.context.columns) for record in records]
            groups = [named[number] for number in found.of(texts)]
        elif self.set.by == "file":
            groups = [record.place.rpartition(":")[0] or record.place for record in records]
        else:
            groups = [value_of(record, self.set.by) for record in records]
        groups = [g if r.row.get("split") in (None, "train") else None for g, r in zip(groups, records, strict=True)]
        return {"group": groups, "weight": [weight_of(record) for record in records]}

    def learn(self, features: pa.Table | None, rows: Rows) -> Any:
        if features is not None:
            return None
        draw = self.context.draw("balance")
        drawn = draw.choice(rows.count, SAMPLE, replace=False) if rows.count > SAMPLE else range(rows.count)
        texts = [joined(record.row, self.context.columns) for record in rows.records(map(int, drawn))]
        found = kmeans.find_clusters(texts, self.set.clusters, draw)
        return found, kmeans.names(found, texts)

    def decide(self, features: pa.Table, rows: Rows) -> Decision:
        coded = features["group"].combine_chunks().dictionary_encode()
        members = coded.is_valid().to_numpy(zero_copy_only=False)
        names = coded.dictionary.to_pylist()
        groups = np.where(members, coded.indices.fill_null(0).to_numpy(), -1)
        if not names:
            raise RowError("no row is of the split `train`", do="balance before `split`, or leave balance out")
        sizes = np.bincount(groups[members], minlength=len(names))
        wanted = wanted_sizes(sizes, self.set)
        decide = self._weighed if self.set.action == "weight" else self._drawn
        decision = decide(groups, sizes, wanted, names, features["weight"].to_numpy())
        after = wanted if self.set.action == "weight" else np.rint(wanted)
        decision.notes = {
            "groups": len(names), "effective groups": [round(effective_groups(s), 2) for s in (sizes, after)],
            "rows before": told(names, sizes, sizes), "rows after": told(names, after, sizes),
        }  # fmt: skip
        decision.plots = {"balance": plot(told(names, sizes, sizes), told(names, after, sizes), self.set.by)}
        return decision

    def _drawn(
        self, groups: np.ndarray, sizes: np.ndarray, wanted: np.ndarray, names: list[str], _: np.ndarray
    ) -> Decision:
        copies = np.ones(len(groups), np.int64)
        draw = self.context.draw("balance", "rows")
        order = np.argsort(groups, kind="stable")
        for number, rows in enumerate(np.split(order, np.searchsorted(groups[order], range(len(sizes))))[1:]):
            each, more = divmod(int(np.rint(wanted[number])), len(rows))
            copies[rows] = each
            copies[draw.choice(rows, more, replace=False)] += 1
        why = {int(i): ("more of its group than wanted", names[groups[i]]) for i in np.flatnonzero(copies == 0)}
        why |= {int(i): ("copied", f"{copies[i]} times, {names[groups[i]]}") for i in np.flatnonzero(copies > 1)}
        return Decision(copies > 0, why, copies=copies)

    def _weighed(
        self, groups: np.ndarray, sizes: np.ndarray, wanted: np.ndarray, names: list[str], earlier: np.ndarray
    ) -> Decision:
        """Weights whose mean is 1 over the rows of train; what a row's weight was before stays a factor."""
        factors = wanted / sizes * (sizes.sum() / wanted.sum())
        members = np.flatnonzero(groups >= 0)
        columns = {int(i): {"weight": float(f"{earlier[i] * factors[groups[i]]:.6g}")} for i in members}
        return Decision(np.ones(len(groups), bool), dict.fromkeys(columns, ("weighed", "")), columns)


def value_of(record: Record, path: str) -> str:
    """The value of a dotted column, as a string. Raises RowError where it is a list or keys and values, or where no
    column has that name."""
    value: Any = record.row
    for key in path.split("."):
        if not isinstance(value, dict) or (key not in value and value is record.row):
            what = f"no column `{path}`.{did_you_mean(key, record.row)}"
            raise RowError(what, where=record.place, do="name another, or by=clusters, or by=file")
        value = value.get(key)
    if isinstance(value, (dict, list)):
        what = f"`{path}` is a {type(value).__name__}, and not one value"
        raise RowError(what, where=record.place, do="name a plain column")
    return NONE if value is None or value == "" else str(value)


def weight_of(record: Record) -> float:
    """The row's weight so far, 1 without one."""
    weight = record.row.get("weight")
    return float(weight) if isinstance(weight, (int, float)) else 1.0


def wanted_sizes(sizes: np.ndarray, settings: BalanceSettings) -> np.ndarray:
    """How many rows each group should have [groups], not yet rounded; at least one.

    Temperature keeps the number of all rows and shares it in proportion to size ** temperature, as in multilingual
    training (Conneau et al. 2020, arXiv 1911.02116, whose alpha it is). Without `upsample` (or weights) no group
    grows, so fewer rows come out; without temperature, `upsample` wants every group as large as the largest. No
    group grows beyond `max_copies`. At last the cap. Raises RowError for a share that so few groups cannot keep.
    """
    wanted = sizes.astype(float)
    if settings.temperature is not None:
        wanted = sizes.astype(float) ** settings.temperature
        wanted *= sizes.sum() / wanted.sum()
        grows = settings.upsample or settings.action == "weight"
        wanted = np.minimum(wanted, sizes * (settings.max_copies if grows else 1))
    elif settings.upsample:
        wanted = np.minimum(sizes.max(), sizes * float(settings.max_copies))
    if settings.cap is not None:
        wanted = np.minimum(wanted, settings.cap if settings.cap >= 1 else cap_of_share(wanted, settings.cap))
    return np.asarray(np.maximum(wanted, 1))


def cap_of_share(sizes: np.ndarray, share: float) -> float:
    """The largest cap c under which no group has more than `share`: c <= share * sum(min(sizes, c)).

    Between two sizes the sum is linear in c; with the k largest groups capped, c = share * rest / (1 - share * k).
    """
    if len(sizes) * share < 1:
        what = f"of {len(sizes)} groups the largest has at least {1 / len(sizes):.1%}, and cap is {share:.1%}"
        raise RowError(what, do="raise cap, or give a number of rows")
    ordered = np.sort(sizes)[::-1]
    rest = np.append(np.cumsum(ordered[::-1])[::-1], 0)
    for capped in range(len(ordered)):
        cap = ordered[capped]
        if cap <= share * (capped * cap + rest[capped]) + 1e-9:
            return float(share * rest[capped] / (1 - share * capped)) if capped else float(cap)
    return float(ordered[-1])


def effective_groups(sizes: np.ndarray) -> float:
    """exp of the entropy of the groups' shares: so many equal groups would be as varied."""
    shares = sizes[sizes > 0] / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def told(names: list[str], sizes: np.ndarray, order: np.ndarray) -> dict[str, float]:
    """Sizes by name, the largest by `order` first, what is beyond TOLD summed."""
    ranks = np.argsort(-order, kind="stable")
    found = {names[i][:60]: round(float(sizes[i]), 1) for i in ranks[:TOLD]}
    if len(ranks) > TOLD:
        found[f"{len(ranks) - TOLD} smaller ones"] = round(float(sizes[ranks[TOLD:]].sum()), 1)
    return {name: int(size) if size == int(size) else size for name, size in found.items()}


def plot(before: dict[str, float], after: dict[str, float], by: str) -> bytes:
    """Bars of the groups before and after: SVG, the same bytes for the same sizes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "whet", "text.parse_math": False}):
        figure = Figure(figsize=(8, 1.2 + 0.32 * len(before)), layout="constrained")
        axes = figure.add_subplot()
        at = np.arange(len(before))
        axes.barh(at - 0.2, list(before.values()), 0.38, color="#b6bcc6", label="before")
        axes.barh(at + 0.2, [after[name] for name in before], 0.38, color="#2f6db3", label="after")
        axes.set_yticks(at, [name if len(name) <= 40 else f"{name[:39]}…" for name in before])
        axes.invert_yaxis()
        axes.set_xlabel("rows")
        axes.set_title(f"rows by {by}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(frameon=False, loc="outside upper right", ncols=2)
        file = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    return file.getvalue()
