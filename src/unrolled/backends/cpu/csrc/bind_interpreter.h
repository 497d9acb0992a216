// Bindings of the interpreter. A program is checked before it runs: every number in it must be that of an operation, a slot
// or a field, and every field must lie within its array.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "binding.h"
#include "kernels.h"
#include "runtime.h"

namespace unrolled {

inline std::vector<std::string> operations() {
#define UNROLLED_OPERATION(name, expression) #name,
  return {UNROLLED_OPERATIONS(UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION)};
#undef UNROLLED_OPERATION
}

// (code, fields, constants, registers), in copies of our own.
inline Program program_of(Arrays& arrays, nb::tuple parts, long fields) {
  require(parts.size() == 4, "a program");
  Program p = {};
  p.fields = arrays.indices<int>(parts[1], p.field_count, fields, "a program's list of fields");
  const double* constants = arrays.any<const double>(parts[2], p.constant_count, "a program's constants");
  p.constants = arrays.copy(constants, p.constant_count);
  p.registers = number(parts[3], "a program's number of registers");
  const long first_register = p.field_count + p.constant_count, slots = first_register + p.registers;
  require(p.registers >= 0 && slots <= MAX_SLOTS, "a program's number of slots");
  long count = 0;
  p.code = arrays.indices<int>(parts[0], count, MAX_SLOTS, "a program's code");
  require(count % 5 == 0, "a program's code");
  p.length = count / 5;
  static const long known = long(operations().size());
  for (long i = 0; i < p.length; ++i) {
    const int* c = p.code + 5 * i;
    require(c[0] < known && (c[1] < p.field_count || c[1] >= first_register), "a program's operation or target");
    for (int k = 1; k < 5; ++k) require(c[k] < slots, "a program's slot");
  }
  return p;
}

// Program; fields (operand, its gradient, block, normalized), each a list; weight, its gradient; groups, inverse; overwrite.
template <class T>
InterpretedStage<T> stage_of(Arrays& arrays, nb::handle h, const InterpretedLayer<T>& q, long columns) {
  require(nb::isinstance<nb::tuple>(h), "a stage");
  const nb::tuple parts = nb::cast<nb::tuple>(h);
  require(parts.size() == 10 && nb::isinstance<nb::tuple>(parts[0]) && nb::isinstance<nb::bool_>(parts[9]), "a stage");
  InterpretedStage<T> s = {};
  long d_operands = 0, normalized_blocks = 0;
  s.program = program_of(arrays, nb::cast<nb::tuple>(parts[0]), q.field_count);
  s.operand = arrays.indices<int>(parts[1], s.operands, q.field_count, "an operand");
  s.d_operand = arrays.indices<int>(parts[2], d_operands, q.field_count, "an operand's gradient");
  s.block = arrays.indices<int>(parts[3], s.blocks, q.field_count, "a block");
  s.normalized = arrays.indices<int>(parts[4], normalized_blocks, q.field_count, "a normalised block");
  s.group = arrays.indices<int>(parts[7], s.groups, MAX_SLOTS, "a group");
  require(s.operands <= MAX_SLOTS && s.blocks <= MAX_SLOTS && s.groups <= MAX_SLOTS, "the lists of a stage");
  require((d_operands == 0 || d_operands == s.operands) && (normalized_blocks == 0 || normalized_blocks == s.blocks), "a stage");
  if (!d_operands) s.d_operand = nullptr;
  if (!normalized_blocks) s.normalized = nullptr;
  s.in = columns ? columns : s.operands ? q.fields[s.operand[0]].units : q.hidden;
  s.out = s.blocks ? q.fields[s.block[0]].units : q.hidden;
  s.overwrite = nb::cast<bool>(parts[9]);
  // Units are the same for all rows; what a stage reads and writes has rows of its own.
  const auto all_of = [&](const int* list, long count, long units) {
    for (long i = 0; list && i < count; ++i)
      require(list[i] >= q.unit_count && q.fields[list[i]].units == units, "a field of a stage");
  };
  all_of(s.block, s.blocks, s.out), all_of(s.normalized, normalized_blocks, s.out);
  all_of(s.operand, s.operands, s.in), all_of(s.d_operand, d_operands, s.in);
  for (long i = 0; i < s.program.field_count; ++i) {
    const int field = s.program.fields[i];
    require(q.fields[field].units == s.out || field < q.unit_count, "the units of a field");
  }
  require(s.groups == 0 || s.out == q.hidden, "a projection that is normalised");
  long grouped = 0;
  for (long g = 0; g < s.groups; ++g) grouped += s.group[g];
  require(s.groups == 0 || grouped == s.blocks, "the number of normalised blocks");
  s.inverse = arrays.array<T>(parts[8], count({q.steps, q.batch, s.groups}), "inverse");
  if (!parts[5].is_none()) {
    long rows = -1, row = 0;
    s.columns = -1;
    s.weight = arrays.matrix<const T>(parts[5], rows, s.columns, row, "a weight");
    require(row == s.columns && rows == count({s.blocks, s.out}), "a weight");
    require(columns ? s.columns == columns : s.columns >= count({s.operands, s.in}), "a weight's columns");
    s.d_weight = arrays.optional<T>(parts[6], count({rows, s.columns}), "a weight's gradient");
  } else {
    require(s.operands == 0 || (s.operands == s.blocks && s.in == s.out), "an operand without a weight");
  }
  return s;
}

// What both directions read. `dims`: steps, batch, inputs, hidden, units of a projected h, first accumulator, number of them.
template <class T>
struct InterpreterCall {
  Arrays arrays;
  InterpretedLayer<T> q = {};
  std::vector<Field<T>> fields;
  std::vector<Given<T>> given;
  std::vector<InterpretedStage<T>> stages;

  InterpreterCall(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list fields_of,
                  nb::handle layout, nb::list given_now, nb::tuple input, nb::list stage_list) {
    require(dims.size() == 7 && dims[2] >= 1 && dims[4] >= 1 && dims[4] <= dims[3], "dims");
    q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.hidden = dims[3], q.projected = dims[4];
    q.first_accumulator = dims[5], q.accumulator_count = dims[6];
    long all = count({q.steps, q.batch});
    count({q.steps, q.batch, q.inputs, q.hidden, MAX_SLOTS});
    long width = q.hidden, row = 0;
    q.unit_count = -1;
    q.units = arrays.matrix<const T>(units, q.unit_count, width, row, "the units");
    require(row == q.hidden, "the rows of the units");
    read_fields(fields_of, layout);
    const long first = q.first_accumulator, more = q.accumulator_count;
    require(first >= 0 && more >= 0 && first <= MAX_SLOTS && more <= MAX_SLOTS, "the accumulators");
    require(more == 0 || (first >= q.unit_count && first + more <= q.field_count), "the accumulators");
    for (long n = 0; n < more; ++n) require(fields[first + n].units == q.hidden, "an accumulator");
    for (nb::handle h : given_now) read_given(h, all);
    q.given = given.data(), q.given_count = long(given.size());
    q.input = stage_of<T>(arrays, input, q, q.inputs);
    require(stage_list.size() <= MAX_SLOTS, "the number of stages");
    for (nb::handle h : stage_list) stages.push_back(stage_of<T>(arrays, h, q, 0));
    q.stage = stages.data(), q.stages = long(stages.size());
    require(q.input.out == q.hidden, "the units of the inputs' blocks");
    for (long r = 0; r < q.input.blocks; ++r) require(kept(q.input.block[r]), "a block of the inputs");
    if (table.is_none()) {
      require(q.input.weight != nullptr, "the inputs' weight");
      q.x = arrays.matrix<const T>(x, all, q.inputs, q.x_row, "x");
    } else {
      q.tokens = arrays.tokens(x, all, q.inputs, "x");
      q.table = arrays.array<T>(table, count({q.inputs, q.input.blocks, padded_row<T>(q.hidden)}), "table");
    }
  }

  // Layout: (fields, 5) of array, first number, phase, period, whether projected; the rows of units are not read.
  void read_fields(nb::list list, nb::handle layout) {
    long count_of = -1, five = 5, row_of = 0;
    const long long* given_rows = arrays.matrix<const long long>(layout, count_of, five, row_of, "the layout");
    require(row_of == 5 && count_of >= q.unit_count && count_of <= MAX_SLOTS, "the number of fields");
    const long long* rows = arrays.copy(given_rows, 5 * count_of);
    std::vector<std::pair<T*, long>> held;
    for (nb::handle h : list) {
      long size = 0;
      T* numbers = arrays.any<T>(h, size, "an array of fields");
      held.push_back({numbers, size});
    }
    for (long i = 0; i < count_of; ++i) {
      const long long* row = rows + 5 * i;
      const long units = row[4] && i >= q.unit_count ? q.projected : q.hidden;
      fields.push_back({nullptr, 0, 1, units});
      if (i < q.unit_count) continue;
      require(row[0] >= 0 && row[0] < (long long)held.size() && row[3] >= 1 && row[2] >= 0 && row[2] <= row[3], "a field");
      const auto& [numbers, size] = held[row[0]];
      require(row[1] >= 0 && row[1] <= size && count({row[3], q.batch, padded_row<T>(units)}) <= size - row[1], "a field's size");
      fields.back() = {numbers + row[1], long(row[2]), long(row[3]), units};
    }
    q.fields = fields.data(), q.field_count = long(fields.size());
  }

  // (field, array): numbers (T B, units), or bytes (T B, 1 or units).
  void read_given(nb::handle h, long all) {
    require(nb::isinstance<nb::tuple>(h) && nb::len(h) == 2, "what is given at every step");
    const nb::tuple parts = nb::cast<nb::tuple>(h);
    Given<T> g = {};
    g.field = number(parts[0], "a field that is given");
    require(g.field >= q.unit_count && g.field < q.field_count, "a field that is given");
    long units = q.fields[g.field].units;
    nb::ndarray<const unsigned char, nb::ndim<2>, nb::device::cpu> bytes;
    if (!parts[1].is_none() && nb::try_cast(parts[1], bytes, false)) {
      long width = -1;
      g.bytes = arrays.matrix<const unsigned char>(parts[1], all, width, g.row, "a mask");
      require(g.row == width && (width == 1 || width == units), "a mask");
    } else {
      g.numbers = arrays.matrix<const T>(parts[1], all, units, g.row, "what is given at every step");
    }
    given.push_back(g);
  }

  bool kept(int field) const { return fields[field].phase + q.steps <= fields[field].period; }

  double products() const {
    double blocks = q.tokens ? 0 : double(q.input.blocks) * q.inputs;
    for (const InterpretedStage<T>& s : stages)
      if (s.weight) blocks += double(s.blocks) * s.operands * s.in;
    return (blocks + 8.0) * q.hidden * double(q.steps) * q.batch;
  }

  template <class Run>
  void run_with(size_t (*work)(const InterpretedLayer<T>&), const Run& kernel) {
    if (q.steps == 0 || q.batch == 0) return;
    q.threads = threads_for(products(), 2e5);
    const Scratch scratch(work(q));
    run(q.threads, [&](const Worker& w) { kernel(q, scratch.get(), w); });
  }
};

template <class T>
const InterpreterKernels<T>& interpreter_kernels() {
  return array_kernels<T>().interpreter;
}

template <class T>
void interpreter_forward(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list arrays,
                         nb::handle layout, nb::list given, nb::tuple input, nb::list stages) {
  InterpreterCall<T> call(dims, x, table, units, arrays, layout, given, input, stages);
  call.run_with(interpreter_kernels<T>().forward_work, interpreter_kernels<T>().forward);
}

template <class T>
void interpreter_backward(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list arrays,
                          nb::handle layout, nb::list given, nb::tuple input, nb::list stages, nb::handle dx, nb::handle sums) {
  InterpreterCall<T> call(dims, x, table, units, arrays, layout, given, input, stages);
  InterpretedLayer<T>& q = call.q;
  const auto whole = [&](const InterpretedStage<T>& s) {
    require(s.groups == 0 || s.blocks == 0 || s.normalized, "normalised rows");
    require(!s.weight || s.d_weight || (&s == &q.input && q.tokens), "a weight without a gradient");
  };
  whole(q.input);
  for (const InterpretedStage<T>& s : call.stages) {
    whole(s);
    require(s.operands == 0 || s.d_operand, "an operand without a gradient");
    for (long r = 0; s.weight && r < s.blocks; ++r) require(call.kept(s.block[r]), "a gradient of all steps");
    for (long j = 0; s.weight && j < s.operands; ++j) require(call.kept(s.operand[j]), "an operand of all steps");
  }
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = call.arrays.template optional<T>(dx, count({q.steps, q.batch, q.dx_row}), "dx");
  require(!q.dx || q.input.weight, "a gradient of inputs without a weight");
  q.sums = call.arrays.template array<T>(sums, count({q.accumulator_count, q.hidden}), "sums");
  call.run_with(interpreter_kernels<T>().backward_work, interpreter_kernels<T>().backward);
}

template <class T>
void define_interpreter(nb::module_& m) {
  m.def(named<T>("interpreter_forward").c_str(), &interpreter_forward<T>, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg());
  m.def(named<T>("interpreter_backward").c_str(), &interpreter_backward<T>, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
}

}  // namespace unrolled
