/* Picks the target. Everything that differs between targets is behind this include. */
#pragma once

#if defined(__AMDGCN__)
#include "amdgcn.h"
#elif defined(__NVPTX__)
#include "nvptx.h"
#else
#include "cpu.h"
#endif
