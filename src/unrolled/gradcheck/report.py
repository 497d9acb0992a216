"""A proof with its verdict, and a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from ..errors import UnrolledError

Verdict = Literal["passed", "failed", "unsupported"]


@dataclass(frozen=True)
class Proof:
    """One checked statement: it holds if `value`, a measured error, is at most `tolerance`."""

    name: str
    subject: str
    value: float
    tolerance: float
    verdict: Verdict
    detail: str = ""
    """The place that differs, with both numbers; or why there is no verdict."""

    @property
    def passed(self) -> bool:
        """Whether it was tried and holds."""
        return self.verdict == "passed"

    def __str__(self) -> str:
        said = self.verdict.upper() if self.verdict == "failed" else self.verdict
        text = f"{said:<11}  {self.name:<19}  {self.subject:<48}"
        if self.verdict == "unsupported":
            return f"{text}  {self.detail}"
        if self.tolerance:  # what has none holds or does not
            text += f"  error {self.value:.1e} of {self.tolerance:.0e}"
        return text.rstrip() if self.passed else f"{text.rstrip()}\n             {self.detail}"


def proof(name: str, subject: str, value: float, tolerance: float, detail: str = "") -> Proof:
    """Pass or fail by the measured error; an error that is not a number fails."""
    holds = bool(value <= tolerance)
    return Proof(name, subject, float(value), tolerance, "passed" if holds else "failed", "" if holds else detail)


def unsupported(name: str, subject: str, why: str) -> Proof:
    """Return a proof that could not be tried, and why."""
    return Proof(name, subject, float("nan"), 0.0, "unsupported", why)


@dataclass(frozen=True)
class Report(Sequence[Proof]):
    """Proofs, in the order they were made; `print` it for a table."""

    proofs: tuple[Proof, ...] = ()

    @property
    def failed(self) -> tuple[Proof, ...]:
        """The proofs that do not hold."""
        return tuple(proof for proof in self.proofs if proof.verdict == "failed")

    @property
    def unsupported(self) -> tuple[Proof, ...]:
        """The proofs that could not be tried; each says why in its `detail`."""
        return tuple(proof for proof in self.proofs if proof.verdict == "unsupported")

    @property
    def passed(self) -> bool:
        """Whether there are proofs and none failed."""
        return any(proof.passed for proof in self.proofs) and not self.failed

    def raise_if_failed(self) -> Self:
        """Return the report, or raise an UnrolledError that names every failed proof."""
        if self.failed:
            raise UnrolledError("\n".join(map(str, self.failed)))
        return self

    def __getitem__(self, index: Any) -> Any:
        return self.proofs[index]

    def __len__(self) -> int:
        return len(self.proofs)

    def __str__(self) -> str:
        counts = [sum(proof.verdict == verdict for proof in self) for verdict in ("passed", "failed", "unsupported")]
        last = "{} passed, {} failed, {} unsupported".format(*counts)
        return "\n".join([*map(str, self.proofs), last])
