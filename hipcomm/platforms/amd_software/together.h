// Running launches: each by the thread that makes it, or those of all ranks by one thread.
#pragma once

#include "execution.h"

namespace hipcomm::amd {

// Until the launch is over. Throws Fault.
//
// With together=n, ranks being threads of this process, a launch waits until n devices have one; then one
// thread runs all of them in turn. A device whose launch is over goes on with its next one, which the others
// wait for, until it has had `batch` of them. What happens follows from the seed alone: polls are part of it,
// and so is the clock.
void run(Launch& launch);

}  // namespace hipcomm::amd
