/* What must be equal on all ranks, and what follows from what need not be. */
#ifndef HIPCOMM_NATIVE_JOIN_AGREEMENT_H
#define HIPCOMM_NATIVE_JOIN_AGREEMENT_H

#include "device.h"
#include "ranks.h"

/* Compare settings and devices; *max_blocks: that a kernel may have on every rank. Collective. */
hipcommResult_t agree_on_settings(Ranks* ranks, const Settings* settings, const Device* device, uint32_t* max_blocks);

#endif
