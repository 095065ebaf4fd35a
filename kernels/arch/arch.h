/* Picks the target. Everything that differs between targets comes from this include. */
#pragma once

/* Moves code out of the way of what runs every time: a kernel this short waits for its instructions. */
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

#if defined(__AMDGCN__)
#include "amdgcn.h"
#elif defined(__NVPTX__)
#include "nvptx.h"
#else
#include "cpu.h"
#endif
