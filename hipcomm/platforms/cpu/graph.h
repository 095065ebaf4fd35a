// Graphs: recorded operations, replayed in the order of their capture by the thread that launches.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "hip_functions.h"

namespace hipcomm::cpu {

// One piece of work with everything that it needs: run at once, or kept in a graph and run many times.
using Operation = std::function<hipError_t()>;

}  // namespace hipcomm::cpu

struct hipGraphNode {
    hipGraphNodeType type;
    hipcomm::cpu::Operation operation;
    std::vector<hipGraphNode_t> dependencies;
};

struct ihipGraph {
    ihipGraph() = default;
    ihipGraph(const ihipGraph&) = delete;
    ihipGraph& operator=(const ihipGraph&) = delete;
    ~ihipGraph();

    std::vector<hipGraphNode_t> nodes;  // in the order of capture
    bool is_capturing = false;
};

struct hipGraphExec {
    std::shared_ptr<const std::vector<hipcomm::cpu::Operation>> operations;
};

namespace hipcomm::cpu {

hipGraph_t create_graph();
void destroy_graph(hipGraph_t graph);
hipGraphNode_t add_node(ihipGraph& graph, hipGraphNodeType type, Operation operation,
                        std::vector<hipGraphNode_t> dependencies);

}  // namespace hipcomm::cpu
