// Binding of the sampler: an object that keeps a language network's weights packed, its state, and the memory of one step.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bind_interpreter.h"
#include "bind_scan.h"
#include "binding.h"
#include "kernels.h"
#include "runtime.h"

namespace unrolled {

// Whether bfloat16 holds all these numbers.
inline bool is_bfloat16(const float* w, long count) {
  uint32_t cut = 0;
  for (long i = 0; i < count; ++i) {
    uint32_t bits;
    memcpy(&bits, w + i, sizeof(bits));
    cut |= bits;
  }
  return (cut & 0xffff) == 0;
}

// Whether int8 does, with one scale a row, which is then known; the largest number of a row is 127 scales.
inline bool is_int8(const float* w, long rows, long columns, float* scale) {
  bool exact = true;
  for (long r = 0; r < rows; ++r, w += columns) {
    float largest = 0;
    for (long i = 0; i < columns; ++i) largest = fmaxf(largest, fabsf(w[i]));
    const float s = scale[r] = largest / 127, inverse = s > 0 ? 1 / s : 0;
    for (long i = 0; i < columns; ++i) exact &= rintf(w[i] * inverse) * s == w[i];
    if (!exact || !(largest < INFINITY)) return false;
  }
  return true;
}

constexpr long MAX_STREAMS = 4096;

template <class T>
class Sampler {
  std::vector<std::unique_ptr<Scratch>> blocks_;
  std::vector<Layer<T>> layers_;                            // of a cell that has kernels;
  std::vector<std::unique_ptr<InterpreterCall<T>>> calls_;  // of any other one
  std::vector<InterpretedLayer<T>> interpreted_;
  std::vector<T*> before_, after_;  // (layers, fields): of a step, the old and the new state
  std::vector<char*> work_;
  std::vector<std::vector<T>> scales_;  // of weights in int8
  Form form_ = Form::WHOLE;             // of weights whose numbers it holds
  const Kernels* kernels_ = state->kernels;
  const ScanKernels<T>* scan_ = nullptr;
  std::mutex sampling_;  // held by the call that goes on from the state
  Sampling<T> q_ = {};
  std::vector<long long> tokens_;
  int failed_ = 0;
  bool shares_units_ = true;  // of threads: not the rows, if these are few
  long rows_ = 0, count_of_layers_ = 0, fields_ = 0, hidden_ = 0;
  double products_ = 0;  // of one symbol
  int threads_ = 1;

  template <class U>
  U* piece(size_t count, bool zeros = true) {
    const size_t bytes = count * sizeof(U);
    blocks_.push_back(std::make_unique<Scratch>(bytes));
    if (zeros) memset(blocks_.back()->get(), 0, bytes);
    return reinterpret_cast<U*>(blocks_.back()->get());
  }

  // How a weight is packed: in the form that is wanted if that holds its numbers, else as they are; so are those of bfloat16
  // for several rows, which have the same bits and are then multiplied faster.
  Rounding<T> rounding_of(const T* w, long rows, long columns) {
    if constexpr (sizeof(T) == sizeof(float)) {
      if (form_ == Form::BFLOAT16 && rows_ == 1 && w && is_bfloat16(w, rows * columns)) return {form_, nullptr};
      std::vector<T> scale(form_ == Form::INT8 && w ? rows : 0);
      if (scale.size() && is_int8(w, rows, columns, scale.data())) return {form_, scales_.emplace_back(std::move(scale)).data()};
    }
    return {Form::WHOLE, nullptr};
  }

  // What a layer reads: the new h of the one below; the first, rows of the embedding, or null for tokens.
  const T* x_of(size_t layer) const { return layer ? after_[(layer - 1) * fields_] : q_.inputs; }

  void add(Arrays& arrays, const CellKernels& cell, nb::dict weights, long inputs) {
    Layer<T> q = {};
    q.steps = 1, q.batch = rows_, q.inputs = inputs, q.hidden = hidden_, q.by_panels = shares_units_, q.plain = true;
    Parameters<T, const T>{q.weight_ih, q.weight_hh, q.bias_ih, q.bias_hh, q.params}.read(arrays, weights, cell, inputs, hidden_);
    q.x = x_of(layers_.size()), q.x_row = layers_.size() ? q_.padded : inputs;
    if (!q.x) q.tokens = tokens_.data(), q.table = true;  // which is not packed
    else q.form_ih = rounding_of(q.weight_ih, cell.rows * hidden_, inputs);
    q.form_hh = rounding_of(q.weight_hh, cell.rows * hidden_, cell.columns * hidden_);
    for (long f = 0; f < fields_; ++f) {
      q.states[f] = piece<T>(2 * rows_ * q_.padded);
      before_.push_back(q.states[f]), after_.push_back(q.states[f] + rows_ * q_.padded);
    }
    layers_.push_back(q);
    products_ += double(cell.rows) * hidden_ * (double(cell.columns) * hidden_ + inputs);
  }

  // The arguments of interpreter_forward for one step, then the numbers of the fields of the old and of the new state.
  void add(nb::tuple parts, long inputs) {
    std::vector<long> dims;
    require(parts.size() == 11 && nb::try_cast(parts[0], dims), "a layer");
    for (int i : {4, 6, 8}) require(nb::isinstance<nb::list>(parts[i]), "a layer");
    require(nb::isinstance<nb::tuple>(parts[7]) && dims.size() > 2 && dims[0] == 1 && dims[1] == rows_ && dims[2] == inputs && dims[7] == 0, "a layer");
    calls_.push_back(std::make_unique<InterpreterCall<T>>(
        dims, parts[1], parts[2], parts[3], nb::list(parts[4]), parts[5], nb::list(parts[6]), nb::tuple(parts[7]), nb::list(parts[8]), true));
    InterpreterCall<T>& call = *calls_.back();
    InterpretedLayer<T>& q = call.q;
    if (!q.tokens) q.input.form = rounding_of(q.input.weight, q.input.rows, q.input.columns);
    for (InterpretedStage<T>& s : call.stages)
      if (s.heads == 1 && s.operands) s.form = rounding_of(s.weight, s.rows, s.columns);
    const T* x = x_of(interpreted_.size());
    require(!x == !!q.tokens && call.given.empty(), "the inputs of a layer");
    if (x) q.x = x, q.x_row = interpreted_.size() ? q_.padded : inputs;
    else q.tokens = tokens_.data();
    q.by_units = shares_units_;
    long olds = 0, news = 0;
    const int* old_fields = call.arrays.template indices<int>(parts[9], olds, q.field_count, "the old state");
    const int* new_fields = call.arrays.template indices<int>(parts[10], news, q.field_count, "the new state");
    require(olds >= 1 && olds == news && (!fields_ || olds == fields_), "the fields of a state");
    fields_ = olds;
    for (long f = 0; f < fields_; ++f) {
      const auto slot = [&](int field) {
        require(field >= q.unit_count && call.fields[field].units == hidden_, "a field of the state");
        return call.fields[field].base + call.fields[field].phase % call.fields[field].period * rows_ * q_.padded;
      };
      before_.push_back(slot(old_fields[f])), after_.push_back(slot(new_fields[f]));
    }
    interpreted_.push_back(q);
    products_ += call.products();
  }

  void set_embedding(nb::handle embedding, long inputs, long vocabulary) {
    if (embedding.is_none()) return require(inputs == vocabulary, "one-hot inputs");
    Arrays arrays;  // its rows are read later: whatever becomes of the caller's
    const long numbers = count({vocabulary, inputs});
    const T* from = arrays.array<const T>(embedding, numbers, "embedding");
    T* own = piece<T>(numbers, false);
    memcpy(own, from, numbers * sizeof(T));
    q_.embedding = own, q_.embedded = inputs, q_.inputs = piece<T>(count({rows_, inputs}));
  }

  // What all threads need; then the weights are packed.
  void prepare() {
    const InterpreterKernels<T>& interpreter = kernels().interpreter;
    threads_ = products_ * double(rows_) < 1e5 ? 1 : state->threads;
    for (Layer<T>& q : layers_) q.threads = threads_, work_.push_back(piece<char>(scan_->forward_work(q), false));
    for (InterpretedLayer<T>& q : interpreted_) q.threads = threads_, work_.push_back(piece<char>(interpreter.forward_work(q), false));
    q_.decoder.threads = threads_, q_.decoder.form = rounding_of(q_.decoder.weight, q_.decoder.outputs, hidden_);
    q_.decoder_work = piece<char>(kernels().linear_work(q_.decoder), false);
    run(threads_, [&](const Worker& w) {
      for (size_t l = 0; l < layers_.size(); ++l) scan_->prepare(layers_[l], work_[l], w);
      for (size_t l = 0; l < interpreted_.size(); ++l) interpreter.prepare(interpreted_[l], work_[l], w);
      kernels().linear_prepare(q_.decoder, q_.decoder_work, w);
    });
    for (Layer<T>& q : layers_) q.weight_ih = q.weight_hh = q.bias_ih = q.bias_hh = q.params = nullptr;  // packed by now
    for (auto& call : calls_) call->arrays.release();
    q_.decoder.weight = q_.decoder.bias = nullptr;
    q_.layers = count_of_layers_, q_.work = work_.data(), q_.states = long(before_.size());
    q_.before = before_.data(), q_.after = after_.data();
    q_.weights = piece<double>(threads_ * q_.blocks * PICK_BLOCK), q_.sums = piece<double>(threads_ * q_.blocks);
    if (scan_)
      q_.layer = layers_.data(), q_.step = scan_->step;
    else
      q_.interpreted = interpreted_.data(), q_.interpret = interpreter.step;
  }

 public:
  Sampler(const Sampler&) = delete;

  // The cell's name, or "" where it has no kernels. dims: inputs of the first layer, hidden, V, rows; whether threads share units.
  Sampler(const std::string& name, const std::vector<long>& dims, nb::list layers, nb::handle embedding, nb::handle decoder,
          nb::handle bias, int form) {
    require(form >= 0 && form <= (sizeof(T) == sizeof(float) ? 2 : 0), "the form of the weights");
    form_ = Form(form);
    require(dims.size() == 5 && dims[0] >= 1 && dims[1] >= 1 && dims[2] >= 1 && dims[3] >= 1 && dims[3] <= MAX_STREAMS && layers.size() >= 1, "dims");
    Arrays arrays;
    const CellKernels* cell = name.empty() ? nullptr : &cell_of(name);
    const long inputs = dims[0], vocabulary = dims[2];
    hidden_ = dims[1], q_.rows = rows_ = dims[3], shares_units_ = dims[4] != 0, count_of_layers_ = long(layers.size());
    count({inputs, cell ? cell->rows : 1, hidden_}), count({vocabulary, hidden_}), count({rows_, hidden_, 64}), count({rows_, vocabulary});
    tokens_.resize(rows_);
    q_.padded = padded_row<T>(hidden_), q_.tokens = tokens_.data(), q_.failed = &failed_;
    if (cell) scan_ = &cell->scan.of<T>(), fields_ = cell->states;
    set_embedding(embedding, inputs, vocabulary);
    products_ = double(vocabulary) * hidden_;
    for (size_t l = 0; l < layers.size(); ++l) {
      require(cell ? nb::isinstance<nb::dict>(layers[l]) : nb::isinstance<nb::tuple>(layers[l]), "a layer");
      if (cell)
        add(arrays, *cell, nb::dict(layers[l]), l ? hidden_ : inputs);
      else
        add(nb::tuple(layers[l]), l ? hidden_ : inputs);
    }
    Linear<T>& d = q_.decoder;
    d.rows = rows_, d.inputs = hidden_, d.outputs = vocabulary, d.x = x_of(layers.size()), d.x_row = q_.padded;
    d.weight = arrays.array<const T>(decoder, count({vocabulary, hidden_}), "decoder");
    d.bias = arrays.optional<const T>(bias, vocabulary, "bias");
    d.y_row = padded_row<T>(vocabulary), d.y = piece<T>(count({rows_, d.y_row}));
    q_.blocks = (vocabulary + PICK_BLOCK - 1) / PICK_BLOCK;
    prepare();
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

  // Fields of the state of a row, each (L, H).
  void set_state(nb::list fields, long row) {
    Arrays arrays;
    std::vector<const T*> from;
    require(long(fields.size()) == fields_ && row >= 0 && row < rows_, "the number of states");
    for (nb::handle field : fields) from.push_back(arrays.array<const T>(field, count({count_of_layers_, hidden_}), "state"));
    const auto mine = alone();
    for (long l = 0; l < count_of_layers_; ++l)
      for (long f = 0; f < fields_; ++f)
        memcpy(before_[l * fields_ + f] + row * q_.padded, from[f] + l * hidden_, hidden_ * sizeof(T));
  }

  // Feeds a token of each row, `tokens` (B), samples the next with its first number of `u` (B, N), feeds that, and so on;
  // `sampled` is like `u`. False where the network's outputs are not finite.
  bool sample(nb::handle tokens, nb::handle u, double temperature, nb::handle sampled) {
    Arrays arrays;
    long all = 0;
    const long long* first = arrays.tokens(tokens, rows_, q_.decoder.outputs, "the tokens");
    const double* numbers = arrays.any<const double>(u, all, "u");
    require(all % rows_ == 0, "the size of u");
    long long* out = arrays.array<long long>(sampled, all, "sampled");
    require(temperature >= 0 && temperature < INFINITY, "the temperature");
    const auto mine = alone();
    q_.u = numbers, q_.sampled = out, q_.count = all / rows_, q_.temperature = temperature, failed_ = 0;
    for (long b = 0; b < rows_; ++b) {
      tokens_[b] = first[b];
      if (q_.embedding) memcpy(q_.inputs + b * q_.embedded, q_.embedding + first[b] * q_.embedded, q_.embedded * sizeof(T));
    }
    run(threads_, [&](const Worker& w) { kernels().sample(q_, w); }, meets_often(products_ * double(rows_)));
    return failed_ == 0;
  }
};

template <class T>
void define_sampler(nb::module_& m) {
  nb::class_<Sampler<T>>(m, named<T>("Sampler").c_str())
      .def(nb::init<const std::string&, const std::vector<long>&, nb::list, nb::handle, nb::handle, nb::handle, int>(), nb::arg(), nb::arg(),
           nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::arg())
      .def("set_state", &Sampler<T>::set_state)
      .def("sample", &Sampler<T>::sample);
}

}  // namespace unrolled
