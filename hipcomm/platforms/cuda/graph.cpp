// Stream capture and graphs.
#include <cstring>

#include "context.h"

using namespace hipcomm::cuda;

/* ---- capture: modes and states have CUDA's numbers ---------------------------------------------- */

hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode mode) {
    return call(driver.cuStreamBeginCapture_v2, stream, mode);
}

hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* graph) {
    return call(driver.cuStreamEndCapture, stream, graph);
}

hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus* status) {
    return call(driver.cuStreamIsCapturing, stream, status);
}

hipError_t hipStreamGetCaptureInfo(hipStream_t stream, hipStreamCaptureStatus* status,
                                   unsigned long long* id) {
    return hipStreamGetCaptureInfo_v2(stream, status, id, nullptr, nullptr, nullptr);
}

hipError_t hipStreamGetCaptureInfo_v2(hipStream_t stream, hipStreamCaptureStatus* status,
                                      unsigned long long* id, hipGraph_t* graph,
                                      const hipGraphNode_t** dependencies, size_t* dependency_count) {
    return call(driver.cuStreamGetCaptureInfo_v2, stream, status, id, graph, dependencies, dependency_count);
}

hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode* mode) {
    return call(driver.cuThreadExchangeStreamCaptureMode, mode);
}

/* ---- graphs ------------------------------------------------------------------------------------- */

hipError_t hipGraphDestroy(hipGraph_t graph) { return call(driver.cuGraphDestroy, graph); }

hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t* nodes, size_t* count) {
    return call(driver.cuGraphGetNodes, graph, nodes, count);
}

hipError_t hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType* type) {
    return call(driver.cuGraphNodeGetType, node, type);
}

// The error node and the log belong to a driver interface that CUDA has withdrawn; there is nothing to put
// into them.
hipError_t hipGraphInstantiate(hipGraphExec_t* exec, hipGraph_t graph, hipGraphNode_t* error_node,
                               char* log_buffer, size_t log_size) {
    if (error_node != nullptr) {
        *error_node = nullptr;
    }
    if (log_buffer != nullptr) {
        std::memset(log_buffer, 0, log_size);
    }
    return hipGraphInstantiateWithFlags(exec, graph, 0);
}

hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* exec, hipGraph_t graph, unsigned long long flags) {
    return call(driver.cuGraphInstantiateWithFlags, exec, graph, flags);
}

hipError_t hipGraphUpload(hipGraphExec_t exec, hipStream_t stream) {
    return call(driver.cuGraphUpload, exec, stream);
}

hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) {
    return call(driver.cuGraphLaunch, exec, stream);
}

hipError_t hipGraphExecDestroy(hipGraphExec_t exec) { return call(driver.cuGraphExecDestroy, exec); }
