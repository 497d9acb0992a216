// Bindings of the scan, for cells with kernels: one layer in one direction, forward and backward.
#pragma once

#include <string>
#include <vector>

#include "binding.h"
#include "kernels.h"
#include "runtime.h"

namespace unrolled {

inline const CellKernels& cell_of(const std::string& name) {
  for (int i = 0; i < state->kernels->cell_count; ++i)
    if (state->kernels->cells[i].name == name) return state->kernels->cells[i];
  throw nb::key_error(name.c_str());
}

// One number a state field.
inline nb::list a_field_each(nb::list list, const CellKernels& cell, const char* what) {
  require(long(list.size()) == cell.states, std::string("the number of ") + what);
  return list;
}

// A cell's parameters, by pointers to where they are kept: of a Layer<T>, or (not const) their gradients.
template <class T, class P>
struct Parameters {
  P *&weight_ih, *&weight_hh, *&bias_ih, *&bias_hh, *&params;

  void read(Arrays& arrays, nb::dict w, const CellKernels& cell, long inputs, long hidden) const {
    const long rows = count({cell.rows, hidden});
    weight_ih = arrays.array<P>(w["weight_ih"], count({rows, inputs}), "weight_ih");
    weight_hh = cell.columns ? arrays.array<P>(w["weight_hh"], count({rows, cell.columns, hidden}), "weight_hh") : nullptr;
    bias_ih = arrays.optional<P>(w["bias_ih"], rows, "bias_ih");
    bias_hh = arrays.optional<P>(w["bias_hh"], rows, "bias_hh");
    params = cell.params ? arrays.array<P>(w["params"], count({cell.params, hidden}), "params") : nullptr;
  }
};

// What both directions have in common. `dims`: steps, batch, inputs, hidden, record, by_panels, rounds.
template <class T>
Layer<T> layer_of(Arrays& arrays, const CellKernels& cell, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live,
                  nb::list keep, nb::list states, nb::list proposed, nb::handle gates) {
  Layer<T> q = {};
  require(dims.size() == 7 && dims[2] >= 1 && dims[3] >= 1, "dims");
  q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.hidden = dims[3];
  q.record = dims[4] != 0, q.by_panels = dims[5] != 0, q.rounds = dims[6] != 0;
  count({q.steps, q.batch, q.inputs, cell.rows, q.hidden});
  long padded = padded_row<T>(q.hidden), all = count({q.steps, q.batch});
  nb::ndarray<nb::ro> any;
  if (nb::try_cast(x, any, false) && any.ndim() == 1) {
    q.tokens = arrays.tokens(x, all, q.inputs, "x");
    q.table = q.inputs <= all;
  } else {
    q.x = arrays.matrix<const T>(x, all, q.inputs, q.x_row, "x");
  }
  Parameters<T, const T>{q.weight_ih, q.weight_hh, q.bias_ih, q.bias_hh, q.params}.read(arrays, w, cell, q.inputs, q.hidden);
  q.live = arrays.optional<const unsigned char>(live, all, "live");
  if (keep.size()) a_field_each(keep, cell, "masks");
  for (size_t i = 0; i < keep.size(); ++i)
    q.keep[i] = arrays.optional<const unsigned char>(keep[i], count({all, q.hidden}), "keep");
  a_field_each(states, cell, "states");
  for (size_t i = 0; i < states.size(); ++i)
    q.states[i] = arrays.array<T>(states[i], count({q.record || i == 0 ? q.steps + 1 : 2, q.batch, padded}), "states");
  if (proposed.size()) a_field_each(proposed, cell, "proposed states");
  for (size_t i = 0; i < proposed.size(); ++i) q.proposed[i] = arrays.array<T>(proposed[i], count({all, padded}), "proposed");
  q.gates = arrays.array<T>(gates, q.record ? count({all, cell.gates, padded}) : 0, "gates");
  q.plain = !q.live && keep.size() == 0 && proposed.size() == 0;
  return q;
}

// Products of one step.
template <class T>
double step_of(const Layer<T>& q, const CellKernels& cell) {
  return double(cell.rows) * q.hidden * q.batch * cell.columns * q.hidden;
}

// Small calls do not pay for threads; nor do steps whose units threads share, if a step is short: they meet after each.
template <class T>
int threads_for(const Layer<T>& q, const CellKernels& cell) {
  const double step = step_of(q, cell);
  const double products = q.steps * (step + (q.tokens ? 0 : double(cell.rows) * q.hidden * q.batch * q.inputs));
  if (q.by_panels && (step < 1.2e4 || q.hidden <= padded_row<T>(1))) return 1;
  return products < 2e5 ? 1 : state->threads;
}

template <class T>
void forward(const std::string& name, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
             nb::list states, nb::list proposed, nb::handle gates, nb::handle y) {
  Arrays arrays;
  const CellKernels& cell = cell_of(name);
  Layer<T> q = layer_of<T>(arrays, cell, dims, x, w, live, keep, states, proposed, gates);
  q.y = arrays.optional<T>(y, count({q.steps, q.batch, padded_row<T>(q.hidden)}), "y");
  if (q.steps == 0 || q.batch == 0) return;  // nothing to do, and arrays without any memory
  const ScanKernels<T>& scan = cell.scan.of<T>();
  q.threads = threads_for(q, cell);
  const Scratch scratch(scan.forward_work(q));
  const bool often = q.by_panels && meets_often(step_of(q, cell));
  run(q.threads, [&](const Worker& worker) { scan.forward(q, scratch.get(), worker); }, often);
}

template <class T>
void backward(const std::string& name, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
              nb::list states, nb::list proposed, nb::handle gates, nb::handle dy, nb::list dstate, nb::handle dx, nb::dict grads) {
  Arrays arrays;
  const CellKernels& cell = cell_of(name);
  Layer<T> q = layer_of<T>(arrays, cell, dims, x, w, live, keep, states, proposed, gates);
  require(q.record, "a call without a record");
  q.dy = arrays.matrix<const T>(dy, count({q.steps, q.batch}), q.hidden, q.dy_row, "dy");
  a_field_each(dstate, cell, "the state's gradients");
  for (size_t i = 0; i < dstate.size(); ++i)
    q.dstate[i] = arrays.array<T>(dstate[i], count({q.batch, padded_row<T>(q.hidden)}), "dstate");
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = arrays.optional<T>(dx, count({q.steps, q.batch, q.dx_row}), "dx");
  Parameters<T, T>{q.d_weight_ih, q.d_weight_hh, q.d_bias_ih, q.d_bias_hh, q.d_params}.read(arrays, grads, cell, q.inputs, q.hidden);
  if (q.steps == 0 || q.batch == 0) return;
  const ScanKernels<T>& scan = cell.scan.of<T>();
  q.threads = threads_for(q, cell);
  const Scratch scratch(scan.backward_work(q));
  const bool often = q.by_panels && meets_often(step_of(q, cell));
  run(q.threads, [&](const Worker& worker) { scan.backward(q, scratch.get(), worker); }, often);
}

template <class T>
void define_scan(nb::module_& m) {
  m.def(named<T>("forward").c_str(), &forward<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg().none());
  m.def(named<T>("backward").c_str(), &backward<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
}

}  // namespace unrolled
