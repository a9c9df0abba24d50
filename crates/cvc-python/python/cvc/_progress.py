"""How far it is: a bar if tqdm is installed, or a function of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager



class Report:
    """Passes on how many rows are done, in calls that each count from 0."""

    def __init__(self, tell: Callable[[int, int], object] | None, total: int) -> None:
        self._tell = tell
        self._total = total

    def after(self, before: int) -> Callable[[int, int], object] | None:
        """What to call with the rows done of a part that `before` rows came before; nothing if nobody listens."""
        tell = self._tell
        return None if tell is None else lambda done, _: tell(before + done, self._total)


@contextmanager
def shown(progress: bool | Callable[[int, int], object], total: int, verb: str) -> Iterator[Report]:
    """A report to `progress`: `True` for a bar, or a function of rows done and all rows."""
    if callable(progress):
        yield Report(progress, total)
    elif not progress:
        yield Report(None, total)
    else:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True shows a bar of tqdm, which is not installed: pip install tqdm") from None
        with tqdm(total=total, desc=verb, unit=" rows", unit_scale=True) as bar:
            yield Report(lambda done, _: bar.update(done - bar.n), total)


