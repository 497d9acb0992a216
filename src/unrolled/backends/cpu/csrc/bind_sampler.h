// Binding of the sampler: an object that keeps a language network's weights packed, its state, and the memory of one step.
#pragma once

#include <math.h>
#include <string.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bind_scan.h"
#include "binding.h"
#include "kernels.h"
#include "runtime.h"

namespace unrolled {

template <class T>
class Sampler {
  std::vector<std::unique_ptr<Scratch>> blocks_;
  std::vector<Layer<T>> layers_;
  std::vector<char*> work_;
  const Kernels* kernels_ = state->kernels;
  const CellKernels& cell_;
  const ScanKernels<T>& scan_;
  std::mutex sampling_;  // held by the call that goes on from the state
  Sampling<T> q_ = {};
  long long token_ = 0;
  long done_ = 0;
  long hidden_ = 0;
  double products_ = 0;  // of one symbol
  int threads_ = 1;

  template <class U>
  U* piece(size_t count, bool zeros = true) {
    const size_t bytes = count * sizeof(U);
    blocks_.push_back(std::make_unique<Scratch>(bytes));
    if (zeros) memset(blocks_.back()->get(), 0, bytes);
    return reinterpret_cast<U*>(blocks_.back()->get());
  }

 public:
  Sampler(const Sampler&) = delete;

  // dims: inputs of the first layer, hidden, V.
  Sampler(const std::string& cell, const std::vector<long>& dims, nb::list weights, nb::handle embedding, nb::handle decoder,
         nb::handle bias)
      : cell_(cell_of(cell)), scan_(cell_.scan.of<T>()) {
    require(dims.size() == 3 && dims[0] >= 1 && dims[1] >= 1 && dims[2] >= 1 && weights.size() >= 1, "dims");
    Arrays arrays;
    const long inputs = dims[0], vocabulary = dims[2], padded = padded_row<T>(dims[1]);
    count({inputs, cell_.rows, dims[1]}), count({vocabulary, dims[1]});
    hidden_ = dims[1];
    q_.states = int(cell_.states), q_.padded = padded, q_.token = &token_, q_.done = &done_, q_.step = scan_.step;
    if (embedding.is_none()) {
      require(inputs == vocabulary, "one-hot inputs");
    } else {  // its rows are read later: whatever becomes of the caller's
      const long numbers = count({vocabulary, inputs});
      const T* from = arrays.array<const T>(embedding, numbers, "embedding");
      T* own = piece<T>(numbers, false);
      memcpy(own, from, numbers * sizeof(T));
      q_.embedding = own;
    }
    products_ = double(vocabulary) * hidden_;
    for (size_t l = 0; l < weights.size(); ++l)
      products_ += double(cell_.rows) * hidden_ * (double(cell_.columns) * hidden_ + (l ? hidden_ : inputs));
    threads_ = products_ < 1e5 ? 1 : state->threads;
    for (size_t l = 0; l < weights.size(); ++l) {
      require(nb::isinstance<nb::dict>(weights[l]), "a layer's weights");
      Layer<T> q = {};
      q.steps = q.batch = 1, q.inputs = l ? hidden_ : inputs, q.hidden = hidden_;
      q.by_panels = q.plain = true, q.threads = threads_;
      Parameters<T, const T>{q.weight_ih, q.weight_hh, q.bias_ih, q.bias_hh, q.params}
          .read(arrays, nb::cast<nb::dict>(weights[l]), cell_, q.inputs, hidden_);
      for (int f = 0; f < q_.states; ++f) q.states[f] = piece<T>(2 * padded);
      q.x_row = q.inputs;
      if (l)
        q.x = layers_[l - 1].states[0] + padded;
      else if (q_.embedding)
        q.x = q_.embedding;
      else
        q.tokens = &token_, q.table = true;
      layers_.push_back(q);
      work_.push_back(piece<char>(scan_.forward_work(q), false));
    }
    q_.layers = long(layers_.size()), q_.layer = layers_.data(), q_.work = work_.data();
    Linear<T>& d = q_.decoder;
    d.rows = 1, d.inputs = hidden_, d.outputs = vocabulary, d.x = layers_.back().states[0] + padded, d.x_row = padded;
    d.weight = arrays.array<const T>(decoder, count({vocabulary, hidden_}), "decoder");
    d.bias = arrays.optional<const T>(bias, vocabulary, "bias");
    d.y_row = padded_row<T>(vocabulary), d.y = piece<T>(d.y_row);
    q_.decoder_work = piece<char>(kernels().linear_work(d), false);
    q_.blocks = (vocabulary + PICK_BLOCK - 1) / PICK_BLOCK;
    q_.weights = piece<double>(q_.blocks * PICK_BLOCK), q_.sums = piece<double>(q_.blocks);
    run(threads_, [&](const Worker& w) {
      for (size_t l = 0; l < layers_.size(); ++l) scan_.prepare(layers_[l], work_[l], w);
      kernels().linear_prepare(q_.decoder, q_.decoder_work, w);
    });
    for (Layer<T>& q : layers_) q.weight_ih = q.weight_hh = q.bias_ih = q.bias_hh = q.params = nullptr;  // packed by now
    d.weight = d.bias = nullptr;
  }

  const ArrayKernels<T>& kernels() const { return kernels_->arrays.of<T>(); }

  // Waits for the call that is sampling, if there is one; not while it holds the interpreter, which that one may ask for.
  std::unique_lock<std::mutex> alone() {
    std::unique_lock<std::mutex> mine(sampling_, std::try_to_lock);
    if (mine) return mine;
    const Inside inside(*state);
    const nb::gil_scoped_release release;
    mine.lock();
    return mine;
  }

  // Fields of the state, each (L, H).
  void set_state(nb::list fields) {
    Arrays arrays;
    const T* from[MAX_FIELDS];
    a_field_each(fields, cell_, "states");
    for (int f = 0; f < q_.states; ++f) from[f] = arrays.array<const T>(fields[f], count({long(layers_.size()), hidden_}), "state");
    const auto mine = alone();
    for (int f = 0; f < q_.states; ++f)
      for (size_t l = 0; l < layers_.size(); ++l) memcpy(layers_[l].states[f], from[f] + l * hidden_, hidden_ * sizeof(T));
  }

  // Feeds `token`, samples the next with u[0], feeds that, and so on; `sampled` is as long as `u`. Returns how many were sampled:
  // fewer where the network's outputs are not finite.
  long sample(long long token, nb::handle u, double temperature, nb::handle sampled) {
    Arrays arrays;
    long length = 0;
    const double* numbers = arrays.any<const double>(u, length, "u");
    long long* out = arrays.array<long long>(sampled, length, "sampled");
    require(token >= 0 && token < q_.decoder.outputs, "the token");
    require(temperature >= 0 && temperature < INFINITY, "the temperature");
    const auto mine = alone();
    q_.u = numbers, q_.sampled = out, q_.count = length, q_.temperature = temperature;
    token_ = token, done_ = 0;
    if (q_.embedding) layers_[0].x = q_.embedding + token * layers_[0].inputs;
    run(threads_, [&](const Worker& w) { kernels().sample(q_, w); }, meets_often(products_));
    return done_;
  }
};

template <class T>
void define_sampler(nb::module_& m) {
  nb::class_<Sampler<T>>(m, named<T>("Sampler").c_str())
      .def(nb::init<const std::string&, const std::vector<long>&, nb::list, nb::handle, nb::handle, nb::handle>(), nb::arg(), nb::arg(),
           nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none())
      .def("set_state", &Sampler<T>::set_state)
      .def("sample", &Sampler<T>::sample);
}

}  // namespace unrolled
