"""Paths as people paste them."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_nnunet_cpu.viewer.fields.path_edit import PathEdit, pasted

NAMES = ["plain", "two words", "grün & 100 %", "it's", "a,b", "#1?", "(x) [y]"]


def as_address(path: Path) -> str:
    return path.as_uri()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "written",
    [
        str,
        '"{}"'.format,
        "'{}'".format,
        "  {}\n".format,
        ' " {} " '.format,
        as_address,
        lambda path: f'"{path.as_uri()}"',
        lambda path: path.as_uri().replace("file:///", "file://localhost/"),
        lambda path: path.as_uri().replace("file:", "FILE:"),
        lambda path: f"\N{LEFT DOUBLE QUOTATION MARK}{path}\N{RIGHT DOUBLE QUOTATION MARK}",
    ],
)
def test_the_path_that_is_meant(qtbot, tmp_path, name: str, written) -> None:
    path = tmp_path / name
    field = PathEdit(nullable=True, value=None)
    field.line_edit.native.setText(written(path))
    assert field.value == path
    field.close()


@pytest.mark.parametrize("text", ["", "  ", '""', "''"])
def test_nothing_is_no_path(qtbot, text: str) -> None:
    field = PathEdit(nullable=True, value=None)
    field.line_edit.native.setText(text)
    assert field.value is None
    field.close()


@pytest.mark.parametrize("text", ['"a', "a'", "'", "\"a'", "~nobody/x", "file:/a"])
def test_what_is_not_quoted_is_left_alone(text: str) -> None:
    assert pasted(text) == text


def test_home(qtbot) -> None:
    field = PathEdit(nullable=True, value=None)
    field.line_edit.native.setText("~/models")
    assert field.value == Path.home() / "models"
    field.close()


def test_a_model_and_a_session_folder_that_were_pasted(viewer, widget, model_folder, tmp_path, qtbot) -> None:
    widget.model.path.line_edit.value = f' "{model_folder}" '
    qtbot.waitUntil(lambda: bool(widget.model.models), timeout=20_000)
    widget.session.folder.line_edit.value = tmp_path.as_uri()
    assert widget.session.folder.value == tmp_path
