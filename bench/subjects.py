"""What one line of a table is about: a message of so many bytes, or a matrix of rows."""

from __future__ import annotations

from dataclasses import dataclass

from hipcomm_bench.sizes import format_size


@dataclass(frozen=True)
class Subject:
    """A message.

    Attributes:
        size: bytes; of a matrix, those of all its rows.
        shape: of a matrix: (rows, elements of a row); empty: a message without a shape.
    """

    size: int
    shape: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Its name in tables: ``64 KiB``, or ``8 x 4096``."""
        return " x ".join(map(str, self.shape)) or format_size(self.size)


def curves(subjects: list[Subject]) -> dict[int, list[Subject]]:
    """Return the subjects that make up one curve of a plot, by the length of their rows; 0: no rows."""
    grouped: dict[int, list[Subject]] = {}
    for subject in subjects:
        grouped.setdefault(subject.shape[-1] if subject.shape else 0, []).append(subject)
    return grouped
