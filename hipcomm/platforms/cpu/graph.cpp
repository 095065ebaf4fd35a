// Graphs and their executable form.
#include "graph.h"

#include <algorithm>

#include "capture.h"
#include "error.h"
#include "handle_table.h"

namespace hipcomm::cpu {
namespace {

HandleTable<ihipGraph, 16384> graphs;
HandleTable<hipGraphNode, 1 << 19> nodes;
HandleTable<hipGraphExec, 16384> executables;

constexpr unsigned long long kKnownFlags = hipGraphInstantiateFlagAutoFreeOnLaunch |
                                           hipGraphInstantiateFlagUpload |
                                           hipGraphInstantiateFlagUseNodePriority;

hipError_t instantiate(hipGraphExec_t* exec, hipGraph_t handle, unsigned long long flags) {
    if (exec == nullptr || (flags & ~kKnownFlags) != 0) return hipErrorInvalidValue;
    *exec = nullptr;
    const ihipGraph* const graph = graphs.find(handle);
    if (graph == nullptr || graph->is_capturing) return hipErrorInvalidValue;
    auto operations = std::make_shared<std::vector<Operation>>();
    operations->reserve(graph->nodes.size());
    for (const hipGraphNode_t node : graph->nodes) operations->push_back(node->operation);
    *exec = executables.create(hipGraphExec{std::move(operations)});
    return hipSuccess;
}

}  // namespace

hipGraph_t create_graph() { return graphs.create(); }

void destroy_graph(hipGraph_t graph) { graphs.destroy(graph); }

hipGraphNode_t add_node(ihipGraph& graph, hipGraphNodeType type, Operation operation,
                        std::vector<hipGraphNode_t> dependencies) {
    const hipGraphNode_t node =
        nodes.create(hipGraphNode{type, std::move(operation), std::move(dependencies)});
    try {
        graph.nodes.push_back(node);
    } catch (...) {
        nodes.destroy(node);
        throw;
    }
    return node;
}

}  // namespace hipcomm::cpu

using namespace hipcomm::cpu;

ihipGraph::~ihipGraph() {
    for (const hipGraphNode_t node : nodes) hipcomm::cpu::nodes.destroy(node);
}

hipError_t hipGraphDestroy(hipGraph_t handle) {
    return api([&] {
        ihipGraph* const graph = graphs.find(handle);
        // A graph in capture belongs to its stream until hipStreamEndCapture hands it out.
        if (graph == nullptr || graph->is_capturing) return hipErrorInvalidValue;
        return graphs.destroy(graph) ? hipSuccess : hipErrorInvalidValue;
    });
}

hipError_t hipGraphGetNodes(hipGraph_t handle, hipGraphNode_t* out, size_t* count) {
    return api([&] {
        const ihipGraph* const graph = graphs.find(handle);
        if (graph == nullptr || count == nullptr) return hipErrorInvalidValue;
        const size_t total = graph->nodes.size();
        if (out == nullptr) {
            *count = total;
            return hipSuccess;
        }
        // Room that is left over stays as it is: callers have been seen to overstate it.
        *count = std::min(total, *count);
        std::copy_n(graph->nodes.begin(), *count, out);
        return hipSuccess;
    });
}

hipError_t hipGraphNodeGetType(hipGraphNode_t handle, hipGraphNodeType* type) {
    return api([&] {
        const hipGraphNode* const node = nodes.find(handle);
        if (node == nullptr || type == nullptr) return hipErrorInvalidValue;
        *type = node->type;
        return hipSuccess;
    });
}

hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* exec, hipGraph_t graph, unsigned long long flags) {
    return api([&] { return instantiate(exec, graph, flags); });
}

hipError_t hipGraphInstantiate(hipGraphExec_t* exec, hipGraph_t graph, hipGraphNode_t* error_node,
                               char* log_buffer, size_t log_size) {
    // No node is ever found at fault: operations were checked when they were captured.
    if (error_node != nullptr) *error_node = nullptr;
    if (log_buffer != nullptr && log_size > 0) *log_buffer = '\0';
    return hipGraphInstantiateWithFlags(exec, graph, 0);
}

hipError_t hipGraphUpload(hipGraphExec_t exec, hipStream_t stream) {
    return api([&] {
        if (executables.find(exec) == nullptr) return hipErrorInvalidValue;
        return find_stream(stream) == nullptr ? hipErrorInvalidHandle : hipSuccess;
    });
}

hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) {
    return api([&] {
        const hipGraphExec* const found = executables.find(exec);
        if (found == nullptr) return hipErrorInvalidValue;
        // Held by the work itself: the executable graph may be destroyed while it is a node of another one.
        return submit(stream, hipGraphNodeTypeGraph, [operations = found->operations] {
            for (const Operation& operation : *operations) {
                const hipError_t result = operation();
                if (result != hipSuccess) return result;
            }
            return hipSuccess;
        });
    });
}

hipError_t hipGraphExecDestroy(hipGraphExec_t exec) {
    return api([&] {
        hipGraphExec* const found = executables.find(exec);
        if (found == nullptr) return hipErrorInvalidValue;
        return executables.destroy(found) ? hipSuccess : hipErrorInvalidValue;
    });
}
