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

// Program; fields (operand, its gradient, block, normalized), each a list; weight, its gradient; groups, inverse; which
// gradients of operands to overwrite; heads.
// The inputs' product has no operand, but x of so many inputs.
template <class T>
InterpretedStage<T> stage_of(Arrays& arrays, nb::handle h, const InterpretedLayer<T>& q, long inputs) {
  require(nb::isinstance<nb::tuple>(h), "a stage");
  const nb::tuple parts = nb::cast<nb::tuple>(h);
  require(parts.size() == 11 && nb::isinstance<nb::tuple>(parts[0]), "a stage");
  InterpretedStage<T> s = {};
  long d_operands = 0, normalized_blocks = 0, overwrites = 0;
  s.program = program_of(arrays, nb::cast<nb::tuple>(parts[0]), q.field_count);
  s.operand = arrays.indices<int>(parts[1], s.operands, q.field_count, "an operand");
  s.d_operand = arrays.indices<int>(parts[2], d_operands, q.field_count, "an operand's gradient");
  s.block = arrays.indices<int>(parts[3], s.blocks, q.field_count, "a block");
  s.normalized = arrays.indices<int>(parts[4], normalized_blocks, q.field_count, "a normalised block");
  s.group = arrays.indices<int>(parts[7], s.groups, MAX_SLOTS, "a group");
  s.overwrite = arrays.indices<int>(parts[9], overwrites, 2, "what is overwritten");
  s.heads = number(parts[10], "heads");
  for (long g = 0; g < s.groups; ++g) s.grouped += s.group[g];
  require(s.heads >= 1 && s.grouped <= s.blocks && overwrites >= (inputs ? 1 : d_operands), "the numbers of a stage");
  require(s.operands <= MAX_SLOTS && s.blocks <= MAX_SLOTS && s.groups <= MAX_SLOTS, "the lists of a stage");
  require((d_operands == 0 || d_operands == s.operands) && (normalized_blocks == 0 || normalized_blocks == s.grouped), "a stage");
  if (!d_operands) s.d_operand = nullptr;
  if (!normalized_blocks) s.normalized = nullptr;
  const auto units = [&](int field) { return q.fields[field].units; };
  // Numbers of a unit are the same for all rows; what a stage reads and writes has rows of its own.
  const auto sum_of = [&](const int* list, long count) {
    long sum = 0;
    for (long i = 0; i < count; ++i) {
      require(list[i] >= q.unit_count, "a field of a stage");
      sum += units(list[i]);
    }
    return sum;
  };
  const auto alike = [&](const int* list, const int* others, long count) {
    for (long i = 0; list && i < count; ++i)
      require(list[i] >= q.unit_count && units(list[i]) == units(others[i]), "the units of a field");
  };
  s.rows = sum_of(s.block, s.blocks), s.depth = inputs ? inputs : sum_of(s.operand, s.operands);
  alike(s.normalized, s.block, normalized_blocks), alike(s.d_operand, s.operand, s.operands);
  s.units = s.program.field_count ? units(s.program.fields[0]) : 1;
  for (long i = 0; i < s.program.field_count; ++i) require(units(s.program.fields[i]) == s.units, "the units of a program");
  s.inverse = arrays.array<T>(parts[8], count({q.steps, q.batch, s.groups}), "inverse");
  if (!parts[5].is_none()) {
    long row = 0;
    s.columns = -1;
    s.weight = arrays.matrix<const T>(parts[5], s.rows, s.columns, row, "a weight");
    require(row == s.columns && (inputs ? s.columns == inputs : s.columns >= s.depth), "a weight's columns");
    s.d_weight = arrays.optional<T>(parts[6], count({s.rows, s.columns}), "a weight's gradient");
  } else {
    require(s.operands == 0 || s.operands == s.blocks, "an operand without a weight");
    alike(s.operand, s.block, s.operands);
  }
  return s;
}

// What both directions read. `dims`: steps, batch, inputs, fields of numbers a unit, first accumulator, number of them,
// whether threads share the units, steps taken at a time (0: all of the inputs' product, then one by one), and rounds.
template <class T>
struct InterpreterCall {
  Arrays arrays;
  InterpretedLayer<T> q = {};
  std::vector<Field<T>> fields;
  std::vector<Given<T>> given;
  std::vector<InterpretedStage<T>> stages;

  InterpreterCall(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list fields_of,
                  nb::handle layout, nb::list given_now, nb::tuple input, nb::list stage_list, bool copies = false)
      : arrays(copies) {
    require(dims.size() == 9 && dims[2] >= 1 && dims[7] >= 0, "dims");
    q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.unit_count = dims[3];
    q.first_accumulator = dims[4], q.accumulator_count = dims[5], q.by_units = dims[6] != 0, q.span = dims[7];
    q.rounds = dims[8] != 0;
    long all = count({q.steps, q.batch});
    count({q.steps, q.batch, q.inputs, MAX_SLOTS});
    read_fields(fields_of, layout);
    q.units = arrays.array<const T>(units, sum_of_units(0, q.unit_count), "the units");
    const long first = q.first_accumulator, more = q.accumulator_count;
    require(first >= 0 && more >= 0 && first <= MAX_SLOTS && more <= MAX_SLOTS, "the accumulators");
    require(more == 0 || (first >= q.unit_count && first + more <= q.field_count), "the accumulators");
    for (nb::handle h : given_now) read_given(h, all);
    q.given = given.data(), q.given_count = long(given.size());
    q.input = stage_of<T>(arrays, input, q, q.inputs);
    require(stage_list.size() <= MAX_SLOTS, "the number of stages");
    for (nb::handle h : stage_list) stages.push_back(stage_of<T>(arrays, h, q, 0));
    q.stage = stages.data(), q.stages = long(stages.size());
    for (const InterpretedStage<T>& s : stages) require(!q.span || s.operands == 0, "a product that waits for a step");
    require(!q.span || q.input.groups == 0, "normalised inputs");
    for (long r = 0; r < q.input.blocks; ++r) {
      require(kept(q.input.block[r]) || in_spans(q.input.block[r]), "a block of the inputs");
      q.table_row += padded_row<T>(fields[q.input.block[r]].units);
    }
    if (table.is_none()) {
      require(q.input.weight != nullptr, "the inputs' weight");
      q.x = arrays.matrix<const T>(x, all, q.inputs, q.x_row, "x");
    } else {
      q.tokens = arrays.tokens(x, all, q.inputs, "x");
      q.table = arrays.array<T>(table, count({q.inputs, q.table_row}), "table");
    }
  }

  // Layout: (fields, 5) of array, first number, phase, period, units; of numbers a unit, only the last is read.
  void read_fields(nb::list list, nb::handle layout) {
    long count_of = -1, five = 5, row_of = 0;
    const long long* given_rows = arrays.matrix<const long long>(layout, count_of, five, row_of, "the layout");
    require(row_of == 5 && q.unit_count >= 0 && count_of >= q.unit_count && count_of <= MAX_SLOTS, "the number of fields");
    const long long* rows = arrays.copy(given_rows, 5 * count_of);
    std::vector<std::pair<T*, long>> held;
    for (nb::handle h : list) {
      long size = 0;
      T* numbers = arrays.any<T>(h, size, "an array of fields");
      held.push_back({numbers, size});
    }
    for (long i = 0; i < count_of; ++i) {
      const long long* row = rows + 5 * i;
      const long units = row[4];
      require(units >= 1, "the units of a field");
      count({q.steps, q.batch, units, 64});
      fields.push_back({nullptr, 0, 1, units});
      if (i < q.unit_count) continue;
      require(row[0] >= 0 && row[0] < (long long)held.size() && row[3] >= 1 && row[2] >= 0 && row[2] <= row[3], "a field");
      const auto& [numbers, size] = held[row[0]];
      require(row[1] >= 0 && row[1] <= size && count({row[3], q.batch, padded_row<T>(units)}) <= size - row[1], "a field's size");
      fields.back() = {numbers + row[1], long(row[2]), long(row[3]), units};
    }
    q.fields = fields.data(), q.field_count = long(fields.size());
  }

  long sum_of_units(long first, long many) const {
    long sum = 0;
    for (long i = first; i < first + many; ++i) sum += fields[i].units;
    return sum;
  }

  // (field, array): numbers or bytes, (T B, 1 or units).
  void read_given(nb::handle h, long all) {
    require(nb::isinstance<nb::tuple>(h) && nb::len(h) == 2, "what is given at every step");
    const nb::tuple parts = nb::cast<nb::tuple>(h);
    Given<T> g = {};
    g.field = number(parts[0], "a field that is given");
    require(g.field >= q.unit_count && g.field < q.field_count, "a field that is given");
    long width = -1;
    nb::ndarray<const unsigned char, nb::ndim<2>, nb::device::cpu> bytes;
    if (!parts[1].is_none() && nb::try_cast(parts[1], bytes, false))
      g.bytes = arrays.matrix<const unsigned char>(parts[1], all, width, g.row, "a mask");
    else
      g.numbers = arrays.matrix<const T>(parts[1], all, width, g.row, "what is given at every step");
    g.alike = width == 1;
    require(width == 1 || width == q.fields[g.field].units, "the width of what is given");
    given.push_back(g);
  }

  // Whether a field holds the steps of a span, one behind the other.
  bool in_spans(int field) const { return q.span && fields[field].phase == 0 && fields[field].period % q.span == 0; }
  bool kept(int field) const { return fields[field].phase + q.steps <= fields[field].period; }

  // Products of one step: those that wait for the step before, and all of them.
  double recurrent() const {
    double sum = 0;
    for (const InterpretedStage<T>& s : stages) sum += s.weight ? double(s.rows) * s.depth : 0;
    return sum * q.batch;
  }
  double products() const {
    double sum = q.tokens ? 0 : double(q.input.rows) * q.inputs;
    for (const InterpretedStage<T>& s : stages) sum += 8.0 * s.units;
    return sum * q.batch + recurrent();
  }

  // Small calls do not pay for threads; nor do steps whose units threads share, if a step is short: they meet in each.
  int threads() const {
    if (q.by_units && !q.span && recurrent() < 1.2e4) return 1;
    return threads_for(q.steps * products(), 2e5);
  }

  template <class Run>
  void run_with(size_t (*work)(const InterpretedLayer<T>&), const Run& kernel) {
    if (q.steps == 0 || q.batch == 0) return;
    q.threads = threads();
    const Scratch scratch(work(q));
    run(q.threads, [&](const Worker& w) { kernel(q, scratch.get(), w); }, q.by_units && !q.span && meets_often(recurrent()));
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
  for (long r = 0; q.input.normalized && r < q.input.grouped; ++r) require(call.kept(q.input.normalized[r]), "normalised inputs");
  for (const InterpretedStage<T>& s : call.stages) {
    whole(s);
    require(s.operands == 0 || s.d_operand, "an operand without a gradient");
    for (long r = 0; s.weight && r < s.blocks; ++r) require(call.kept(s.block[r]), "a gradient of all steps");
    for (long j = 0; s.weight && j < s.operands; ++j) require(call.kept(s.operand[j]), "an operand of all steps");
  }
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = call.arrays.template optional<T>(dx, count({q.steps, q.batch, q.dx_row}), "dx");
  require(!q.dx || q.input.weight, "a gradient of inputs without a weight");
  require(!q.span || !q.tokens, "spans of tokens");
  q.sums = call.arrays.template array<T>(sums, call.sum_of_units(q.first_accumulator, q.accumulator_count), "sums");
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
