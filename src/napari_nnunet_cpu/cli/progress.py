"""Show a run on the terminal: a progress bar with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from napari_nnunet_cpu.cli.exits import printable
from napari_nnunet_cpu.events import Event, TileDone


@contextmanager
def tile_progress(visible: bool) -> Iterator[Callable[[Event], None]]:
    """Show events as a progress bar on stderr while the block runs, and remove it afterwards.

    Yields a function that takes the events of a run. Without a terminal, nothing is shown.
    """
    console = Console(stderr=True)
    columns = (_plain("{task.description}"), BarColumn(), _plain("{task.fields[count]}"))
    hidden = not (visible and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None, count="")

        def show(event: Event) -> None:
            if isinstance(event, TileDone):
                bar.update(task, completed=event.done, total=event.total, count=printable(event.text))
            else:
                bar.update(task, description=printable(event.text), count="")

        yield show


def _plain(column: str) -> TextColumn:
    """A column without markup, because names of configurations are not trusted."""
    return TextColumn(column, markup=False)
