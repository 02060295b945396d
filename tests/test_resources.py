import importlib.metadata
import mmap
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from napari_nnunet_cpu import resources
from napari_nnunet_cpu.resources import (
    Stopwatch,
    cache_folder,
    free_memory_bytes,
    installed_version,
    int8_is_fast,
    processor_name,
    release_mapped,
    usable_cores,
)


def cgroup(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def version_1(quota, period):
    return {"cpu/cpu.cfs_quota_us": f"{quota}\n", "cpu/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "100000 0\n"}, None),
        ({"cpu.max": ""}, None),
        ({"cpu.max": "many cores\n"}, None),
        (version_1(-1, 100000), None),
        (version_1(150000, 100000), 1.5),
        (version_1(150000, 0), None),
        (version_1("", ""), None),
        ({"cpu/cpu.cfs_quota_us": "150000\n"}, None),
        ({"cpu.max": "300000 100000\n"} | version_1(100000, 100000), 3.0),
    ],
    ids=[
        "none", "v2-max", "v2-two", "v2-half", "v2-fraction", "v2-no-period", "v2-empty", "v2-words", "v1-unlimited",
        "v1", "v1-no-period", "v1-empty", "v1-half-there", "both",
    ],
)  # fmt: skip
def test_the_quota_of_a_container(tmp_path, files, quota):
    assert resources._cgroup_quota(cgroup(tmp_path, files)) == quota


@pytest.mark.parametrize(
    ("affinity", "maximum", "cores"),
    [
        (8, "max 100000", 8),
        (8, "200000 100000", 2),
        (8, "250000 100000", 3),
        (8, "1000 100000", 1),
        (2, "800000 100000", 2),
    ],
    ids=["no-quota", "quota", "rounded-up", "at-least-one", "affinity-is-less"],
)
def test_cores_are_those_of_the_affinity_and_the_quota(tmp_path, monkeypatch, affinity, maximum, cores):
    monkeypatch.setattr(resources, "_CGROUP", cgroup(tmp_path, {"cpu.max": maximum}))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(affinity)), raising=False)
    assert usable_cores() == cores


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_cores_where_there_is_no_affinity(tmp_path, monkeypatch, count, cores):
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == cores


def cpu(*flags):
    return f"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu {' '.join(flags)} sse2\nbugs\t\t: mds\n"


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        (cpu("avx2", "avx512f", "avx512_vnni"), True),
        (cpu("avx2", "avx_vnni"), True),
        (cpu("avx512f", "amx_int8"), True),
        (cpu("avx2", "avx512f", "avx512_bf16"), False),
        (cpu("avx_vnni_int16"), False),
        ("processor\t: 0\nFeatures\t: fp asimd i8mm asimddp\n", False),
        ("", False),
    ],
    ids=["vnni-512", "vnni-256", "amx", "none", "another", "arm", "empty"],
)
def test_int8_on_linux(tmp_path, monkeypatch, text, fast):
    monkeypatch.setattr(resources, "_CPU", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(text)
    assert int8_is_fast() is fast


@pytest.mark.parametrize(
    ("found", "fast"),
    [
        ({"SIMD Extensions": {"baseline": ["SSE2"], "found": ["AVX2", "AVX512_SKX", "AVX512_CLX"]}}, True),
        ({"SIMD Extensions": {"baseline": ["SSE2"], "found": ["AVX512_ICL"]}}, True),
        ({"SIMD Extensions": {"baseline": ["SSE2"], "found": ["AVX2", "AVX512_SKX"]}}, False),
        ({"SIMD Extensions": {"baseline": ["NEON", "ASIMD"], "found": ["ASIMDDP"]}}, False),
        ({"SIMD Extensions": {"baseline": ["SSE2"]}}, False),
        ({}, False),
    ],
)
def test_int8_elsewhere(tmp_path, monkeypatch, found, fast):
    monkeypatch.setattr(resources, "_CPU", tmp_path / "none")
    monkeypatch.setattr(np, "show_config", lambda mode: found if mode == "dicts" else None)
    assert int8_is_fast() is fast


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_the_cache_is_the_users_otherwise(monkeypatch, value):
    monkeypatch.delenv("NAPARI_NNUNET_CPU_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("NAPARI_NNUNET_CPU_CACHE", value)
    assert cache_folder().is_relative_to(Path.home())
    assert "napari-nnunet-cpu" in cache_folder().parts


def test_a_stopwatch_adds_up_by_name_and_counts_failures(monkeypatch):
    times = iter([1.0, 3.0, 10.0, 10.5, 20.0, 24.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    watch = Stopwatch()
    with watch.timing("load"):
        pass
    with watch.timing("tiles"):
        pass
    with pytest.raises(KeyError), watch.timing("load"):
        raise KeyError
    assert watch.seconds == {"load": 6.0, "tiles": 0.5}


def memory_1(limit, use, statistic="total_inactive_file 7\n"):
    return {
        "memory/memory.limit_in_bytes": f"{limit}\n",
        "memory/memory.usage_in_bytes": f"{use}\n",
        "memory/memory.stat": statistic,
    }


def memory_2(limit, use, statistic="anon 1\ninactive_file 500\nactive_file 9\n"):
    return {"memory.max": f"{limit}\n", "memory.current": f"{use}\n", "memory.stat": statistic}


@pytest.mark.parametrize(
    ("files", "room"),
    [
        ({}, None),
        (memory_2("max", 700), None),
        (memory_2(2000, 700), 1800),
        (memory_2(2000, 700, "anon 1\n"), 1300),
        (memory_2(2000, ""), None),
        ({"memory.max": "2000\n"}, None),
        (memory_1(2000, 700), 1307),
        (memory_1("", ""), None),
        (memory_2("max", 700) | memory_1(2000, 700), 1307),
    ],
    ids=["none", "v2-max", "v2", "v2-no-files", "v2-no-use", "v2-half-there", "v1", "v1-empty", "both"],
)
def test_the_memory_of_a_container(tmp_path, files, room):
    assert resources._cgroup_room(cgroup(tmp_path, files)) == room


@pytest.mark.parametrize(
    ("available", "limit", "free"), [(900, "max", 900), (900, 1000, 800), (300, 1000, 300), (9, 1, 0)]
)
def test_free_memory_is_the_systems_and_the_containers(tmp_path, monkeypatch, available, limit, free):
    monkeypatch.setattr(resources, "_CGROUP", cgroup(tmp_path, memory_2(limit, 700)))
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=available))
    assert free_memory_bytes() == free


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody says which files are mapped where")
def test_memory_of_mapped_files_is_handed_back(tmp_path):
    content = bytes(range(256)) * 4096
    maps = {}
    for name in ("own", "own and more"):  # the second is another folder, whose name begins alike
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(content)
        with open(tmp_path / name / "weights", "rb") as file:
            maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert maps[name][:] == content

    def held(name):
        path = str(tmp_path / name / "weights")
        return sum(part.rss for part in psutil.Process().memory_maps(grouped=False) if part.path == path)

    assert (held("own"), held("own and more")) == (len(content),) * 2
    release_mapped(tmp_path / "own")
    assert (held("own"), held("own and more")) == (0, len(content))
    assert maps["own"][:] == content


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Fast CPU @ 2 GHz \nflags : avx\nmodel name\t: other\n", "Fast CPU @ 2 GHz"),
        ("processor\t: 0\nmodel\t: 7\n", "arm9"),
        (None, "Apple"),
    ],
)
def test_the_processor_has_a_name(tmp_path, monkeypatch, text, name):
    monkeypatch.setattr(resources, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "arm9")
    monkeypatch.setattr("platform.processor", lambda: "Apple")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert processor_name() == name


def test_where_nobody_says_what_is_mapped_nothing_is_handed_back(tmp_path, monkeypatch):
    monkeypatch.delattr(psutil.Process, "memory_maps")
    release_mapped(tmp_path)


def test_a_version_is_looked_up_once_and_a_missing_package_again(monkeypatch):
    resources._version.cache_clear()
    asked, installed = [], {"there": "1.2"}

    def version(name):
        asked.append(name)
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert [installed_version("there"), installed_version("there")] == ["1.2", "1.2"]
    assert installed_version("missing") is None
    installed["missing"] = "3"
    assert installed_version("missing") == "3"
    assert asked == ["there", "missing", "missing"]
    resources._version.cache_clear()
