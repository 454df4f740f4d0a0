"""What this machine computes with, as far as a figure or a choice depends on it. Only reads what the kernel says."""

from __future__ import annotations

import platform
from pathlib import Path

PROCESSOR = Path("/proc/cpuinfo")


def hardware_name() -> str:
    """This machine's processor, as the kernel names it."""
    lines = _told().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "") or (
        platform.processor()
    )


def has_vnni() -> bool:
    """Whether this processor adds products of 8-bit values up in 32 bits; without, 8-bit arithmetic gains little."""
    return any(flag in _told() for flag in ("avx512_vnni", "avx_vnni"))


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; without, bfloat16 is far slower than FP32."""
    return any(flag in _told() for flag in ("avx512_bf16", "amx_bf16"))


def _told() -> str:
    try:
        return PROCESSOR.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
