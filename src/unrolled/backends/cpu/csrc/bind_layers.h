// Bindings of what stands around the recurrence: linear layers, embeddings, the loss.
#pragma once

#include <algorithm>
#include <vector>

#include "binding.h"
#include "kernels.h"
#include "runtime.h"
#include "team.h"

namespace unrolled {

template <class T>
Linear<T> linear_of(Arrays& arrays, const std::vector<long>& dims, nb::handle x, nb::handle weight) {
  require(dims.size() == 4 && dims[0] >= 0 && dims[1] >= 1 && dims[2] >= 1, "dims");
  Linear<T> q = {};
  q.rows = dims[0], q.inputs = dims[1], q.outputs = dims[2], q.rounds = dims[3] != 0;
  count({q.rows, q.inputs, q.outputs});
  q.x = arrays.matrix<const T>(x, q.rows, q.inputs, q.x_row, "x");
  q.weight = arrays.array<const T>(weight, count({q.outputs, q.inputs}), "weight");
  return q;
}

// dims: rows, inputs, outputs, rounds.
template <class T>
void linear(const std::vector<long>& dims, nb::handle x, nb::handle weight, nb::handle bias, nb::handle y) {
  Arrays arrays;
  Linear<T> q = linear_of<T>(arrays, dims, x, weight);
  q.bias = arrays.optional<const T>(bias, q.outputs, "bias");
  q.y_row = padded_row<T>(q.outputs);
  q.y = arrays.array<T>(y, count({q.rows, q.y_row}), "y");
  if (q.rows == 0) return;
  const int threads = threads_for(double(q.rows) * q.inputs * q.outputs, 2e5);
  const Scratch scratch(array_kernels<T>().linear_work(q));
  run(threads, [&](const Worker& w) { array_kernels<T>().linear(q, scratch.get(), w); });
}

template <class T>
void linear_backward(const std::vector<long>& dims, nb::handle x, nb::handle weight, nb::handle dy, nb::handle dx,
                     nb::handle d_weight, nb::handle d_bias) {
  Arrays arrays;
  Linear<T> q = linear_of<T>(arrays, dims, x, weight);
  q.dy = arrays.matrix<const T>(dy, q.rows, q.outputs, q.dy_row, "dy");
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = arrays.array<T>(dx, count({q.rows, q.dx_row}), "dx");
  q.d_weight = arrays.array<T>(d_weight, count({q.outputs, q.inputs}), "d_weight");
  q.d_bias = arrays.array<T>(d_bias, q.outputs, "d_bias");
  if (q.rows == 0) {
    std::fill(q.d_weight, q.d_weight + q.outputs * q.inputs, T(0));
    std::fill(q.d_bias, q.d_bias + q.outputs, T(0));
    return;
  }
  const int threads = threads_for(double(q.rows) * q.inputs * q.outputs, 1e5);
  const Scratch scratch(array_kernels<T>().linear_backward_work(q));
  run(threads, [&](const Worker& w) { array_kernels<T>().linear_backward(q, scratch.get(), w); });
}

// table (V, E): the sum of the rows (N, E) of every token, in their order. Threads share the table's rows.
template <class T>
void embed_backward(nb::handle tokens, nb::handle rows, nb::handle table) {
  Arrays arrays;
  long size = -1, width = -1, length = 0, row = 0;
  T* sums = arrays.matrix<T>(table, size, width, row, "the table");
  require(row == width, "a table whose rows lie apart");
  const long long* index = arrays.indices<long long>(tokens, length, size, "the tokens");
  const T* from = arrays.matrix<const T>(rows, length, width, row, "rows");
  if (size == 0 || width == 0) return;
  run(threads_for(double(size + length) * width, 3e4), [&](const Worker& w) {
    const Share mine(size, w);
    std::fill(sums + mine.first * width, sums + mine.last * width, T(0));
    for (long i = 0; i < length; ++i) {
      if (i % 1024 == 0 && !w.go_on()) return;
      const long token = index[i];
      if (token < mine.first || token >= mine.last) continue;
      T* sum = sums + token * width;
      for (long k = 0; k < width; ++k) sum[k] += from[i * row + k];
    }
  });
}

// Nats of each of N targets, and (unless d is None) scale times the gradient of their sum, of smoothed targets.
template <class T>
void cross_entropy(nb::handle logits, nb::handle targets, double scale, double smoothing, nb::handle nats,
                   nb::handle d) {
  Arrays arrays;
  Loss<T> q = {};
  q.rows = q.size = -1, q.scale = scale, q.smoothing = smoothing;
  q.logits = arrays.matrix<const T>(logits, q.rows, q.size, q.logits_row, "logits");
  q.targets = arrays.tokens(targets, q.rows, q.size, "the targets");
  q.nats = arrays.array<double>(nats, q.rows, "nats");
  if (!d.is_none()) q.d = arrays.matrix<T>(d, q.rows, q.size, q.d_row, "d");
  if (q.rows == 0) return;
  run(threads_for(double(q.rows) * q.size, 2e4), [&](const Worker& w) { array_kernels<T>().cross_entropy(q, w); });
}

template <class T>
void define_layers(nb::module_& m) {
  m.def(named<T>("linear").c_str(), &linear<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
  m.def(named<T>("linear_backward").c_str(), &linear_backward<T>);
  m.def(named<T>("embed_backward").c_str(), &embed_backward<T>);
  m.def(named<T>("cross_entropy").c_str(), &cross_entropy<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg().none());
}

}  // namespace unrolled
