"""sys/host-info: the machine, as psutil sees it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import psutil

from kms.clock import Clock, rfc3339

_CPUINFO = Path("/proc/cpuinfo")
_OS_RELEASE = Path("/etc/os-release")


def host_info(clock: Clock) -> dict[str, Any]:
    """The `data` of the answer. What the machine does not tell is empty or left out."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "timestamp": rfc3339(clock.now()),
        "cpu": _processors(),
        "cpu_times": [
            {"cpu": f"cpu{number}", **times._asdict()}
            for number, times in enumerate(psutil.cpu_times(percpu=True))
        ],
        "disk": [_disk(part) for part in psutil.disk_partitions(all=False)],
        "host": _host(clock),
        "memory": {
            "total": memory.total,
            "available": memory.available,
            "used": memory.used,
            "usedPercent": memory.percent,
            "free": memory.free,
            "swapTotal": swap.total,
            "swapFree": swap.free,
        },
    }


def _processors() -> list[dict[str, Any]]:
    found = []
    for block in _CPUINFO.read_text(errors="replace").split("\n\n"):
        facts: dict[str, str] = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", block, re.MULTILINE))
        if "processor" not in facts:
            continue
        found.append(
            {
                "cpu": int(facts["processor"]),
                "vendorId": facts.get("vendor_id", ""),
                "family": facts.get("cpu family", ""),
                "model": facts.get("model", ""),
                "stepping": _number(facts.get("stepping", "")),
                "physicalId": facts.get("physical id", ""),
                "coreId": facts.get("core id", ""),
                "cores": 1,
                "modelName": facts.get("model name", ""),
                "mhz": float(facts.get("cpu MHz", "0") or 0),
                "cacheSize": _number(facts.get("cache size", "")),
                "flags": (facts.get("flags") or facts.get("Features") or "").split(),
                "microcode": facts.get("microcode", ""),
            }
        )
    return found


def _number(text: str) -> int:
    digits = re.match(r"\d+", text)
    return int(digits[0]) if digits else 0


def _disk(part: Any) -> dict[str, Any]:
    known = {"path": part.mountpoint, "fstype": part.fstype}
    try:
        usage = psutil.disk_usage(part.mountpoint)
    except OSError:  # not ours to look at: the partition is named without its numbers
        return known
    return {
        **known,
        "total": usage.total,
        "free": usage.free,
        "used": usage.used,
        "usedPercent": usage.percent,
    }


def _host(clock: Clock) -> dict[str, Any]:
    system = os.uname()
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _release(), re.MULTILINE))
    booted = int(psutil.boot_time())
    return {
        "hostname": system.nodename,
        "uptime": max(0, int(clock.now()) - booted),
        "bootTime": booted,
        "procs": len(psutil.pids()),
        "os": system.sysname.lower(),
        "platform": release.get("ID", ""),
        "platformFamily": release.get("ID_LIKE", release.get("ID", "")),
        "platformVersion": release.get("VERSION_ID", ""),
        "kernelVersion": system.release,
        "kernelArch": system.machine,
    }


def _release() -> str:
    try:
        return _OS_RELEASE.read_text(errors="replace")
    except OSError:
        return ""
