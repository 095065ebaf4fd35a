/* A C++ engine that computes and communicates without Python, by the handle of a communicator made in Python (engine.py).
 *
 * c++ -shared -fPIC engine.cpp $(python -m hipcomm --cflags --libs) -o libengine.so */
#include <hipcomm.h>

#include <exception>
#include <new>
#include <stdexcept>
#include <string>

namespace {

thread_local std::string last_error;

// A matrix whose columns are split over the ranks, each of which has the same number of them, in row-major order.
class Engine {
  public:
    Engine(hipcommComm_t comm, size_t rows, size_t columns, const float* matrix)
        : comm_(comm), rows_(rows), columns_(columns), matrix_(matrix) {}

    // y = A x on all ranks; x is this rank's part.
    void multiply(const float* x, float* y) const {
        for (size_t row = 0; row < rows_; ++row) {
            y[row] = 0;
            for (size_t column = 0; column < columns_; ++column) y[row] += matrix_[row * columns_ + column] * x[column];
        }
        check(hipcommAllReduce(y, y, rows_, hipcommFloat32, hipcommSum, comm_, nullptr));
        check(hipcommStreamSynchronize(comm_, nullptr));
    }

  private:
    void check(hipcommResult_t result) const {
        if (result != hipcommSuccess) throw std::runtime_error(hipcommGetLastError(comm_));
    }

    hipcommComm_t comm_; // lent: Python closes it
    size_t rows_, columns_;
    const float* matrix_;
};

}  // namespace

// No exception may leave a C function: 0, or 1 and the error's text.
extern "C" Engine* engine_create(hipcommComm_t comm, size_t rows, size_t columns, const float* matrix) {
    return new (std::nothrow) Engine(comm, rows, columns, matrix);
}
extern "C" int engine_multiply(const Engine* engine, const float* x, float* y) {
    try {
        engine->multiply(x, y);
        return 0;
    } catch (const std::exception& error) {
        last_error = error.what();
        return 1;
    }
}
extern "C" const char* engine_error() { return last_error.c_str(); }
extern "C" void engine_destroy(Engine* engine) { delete engine; }
