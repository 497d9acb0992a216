// Bindings of the block evaluator's scan. Part of engine.cpp. A program is checked before it runs: every number in it
// must be that of an operation, a place or a field, and every field must lie within its array.
#pragma once

std::vector<std::string> operations() {
#define UNROLLED_OPERATION(name, expression) #name,
  return {UNROLLED_OPERATIONS(UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION)};
#undef UNROLLED_OPERATION
}

void require(bool fits, const char* what) {
  if (!fits) throw nb::value_error((std::string(what) + " does not fit").c_str());
}

// A list of whole numbers from 0 to below `end`.
const int* numbers(nb::handle h, long& count, long end, const char* what) {
  nb::ndarray<const int, nb::c_contig, nb::device::cpu> array;
  if (!nb::try_cast(h, array, false)) throw nb::type_error((std::string(what) + " is no array of 32-bit integers").c_str());
  count = long(array.size());
  for (long i = 0; i < count; ++i) require(array.data()[i] >= 0 && array.data()[i] < end, what);
  return array.data();
}

// (code, fields, constants, registers)
Program program_of(nb::tuple parts, long fields) {
  Program p = {};
  p.fields = numbers(parts[1], p.field_count, fields, "a program's list of fields");
  nb::ndarray<const double, nb::c_contig, nb::device::cpu> constants;
  if (!nb::try_cast(parts[2], constants, false)) throw nb::type_error("a program's constants have another dtype");
  p.constants = constants.data(), p.constant_count = long(constants.size());
  p.registers = nb::cast<long>(parts[3]);
  const long first_register = p.field_count + p.constant_count, places = first_register + p.registers;
  require(p.registers >= 0 && places <= MAX_PLACES, "a program's number of places");
  long count = 0;
  p.code = numbers(parts[0], count, MAX_PLACES, "a program's code");
  p.length = count / 5;
  static const long known = long(operations().size());
  for (long i = 0; i < p.length; ++i) {
    const int* c = p.code + 5 * i;
    require(c[0] < known && (c[1] < p.field_count || c[1] >= first_register), "a program's operation or target");
    for (int k = 1; k < 5; ++k) require(c[k] < places, "a program's place");
  }
  return p;
}

// Program; fields (operand, its gradient, block, hat), each a list; weight, its gradient; groups, inverse; fresh.
template <class T>
ProgramStage<T> stage_of(nb::tuple parts, const ProgramLayer<T>& q, long columns) {
  ProgramStage<T> s = {};
  long d_operands = 0, hats = 0;
  s.program = program_of(nb::cast<nb::tuple>(parts[0]), q.field_count);
  s.operand = numbers(parts[1], s.operands, q.field_count, "an operand");
  s.d_operand = numbers(parts[2], d_operands, q.field_count, "an operand's gradient");
  s.block = numbers(parts[3], s.blocks, q.field_count, "a block");
  s.hat = numbers(parts[4], hats, q.field_count, "a normalised block");
  s.group = numbers(parts[7], s.groups, MAX_PLACES, "a group");
  require(s.blocks <= MAX_PLACES && (d_operands == 0 || d_operands == s.operands) && (hats == 0 || hats == s.blocks), "a stage");
  s.in = columns ? columns : s.operands ? q.fields[s.operand[0]].units : q.hidden;
  s.out = s.blocks ? q.fields[s.block[0]].units : q.hidden;
  s.fresh = nb::cast<bool>(parts[9]);
  const auto all_of = [&](const int* list, long count, long units) {
    for (long i = 0; list && i < count; ++i) require(q.fields[list[i]].units == units, "the units of a field");
  };
  all_of(s.block, s.blocks, s.out), all_of(s.hat, hats, s.out), all_of(s.program.fields, s.program.field_count, s.out);
  all_of(s.operand, s.operands, s.in), all_of(s.d_operand, d_operands, s.in);
  require(s.groups == 0 || s.out == q.hidden, "a projection that is normalised");
  long grouped = 0;
  for (long g = 0; g < s.groups; ++g) grouped += s.group[g];
  require(s.groups == 0 || grouped == s.blocks, "the number of normalised blocks");
  s.inverse = data<T>(parts[8], q.steps * q.batch * s.groups, "inverse");
  if (!parts[5].is_none()) {
    nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu> weight;
    if (!nb::try_cast(parts[5], weight, false)) throw nb::type_error("a weight has another dtype or layout");
    s.weight = weight.data(), s.columns = long(weight.shape(1));
    require(long(weight.shape(0)) == s.blocks * s.out && (columns ? s.columns == columns : s.columns >= s.operands * s.in), "a weight");
    s.d_weight = data<T>(parts[6], weight.size(), "a weight's gradient");
  } else {
    require(s.operands == 0 || (s.operands == s.blocks && s.in == s.out), "an operand without a weight");
  }
  return s;
}

// What both directions read. `dims`: steps, batch, inputs, hidden, units of a narrow field, first total, number of totals.
template <class T>
struct ProgramCall {
  ProgramLayer<T> q = {};
  std::vector<Field<T>> fields;
  std::vector<Given<T>> given;
  std::vector<ProgramStage<T>> stages;

  ProgramCall(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list arrays, nb::handle layout,
              nb::list given_now, nb::tuple input, nb::list stage_list) {
    require(dims.size() == 7 && dims[4] <= dims[3], "dims");
    q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.hidden = dims[3], q.narrow = dims[4];
    q.first_total = dims[5], q.total_count = dims[6];
    const size_t all = q.steps * q.batch;
    read_units(units);
    read_fields(arrays, layout);
    for (long n = 0; n < q.total_count; ++n) require(q.first_total + n < q.field_count && fields[q.first_total + n].units == q.hidden, "a total");
    require(q.total_count == 0 || (q.first_total >= q.unit_count && q.first_total + q.total_count <= q.field_count), "the totals");
    for (nb::handle h : given_now) read_given(nb::cast<nb::tuple>(h), all);
    q.given = given.data(), q.given_count = long(given.size());
    q.input = stage_of<T>(input, q, q.inputs);
    for (nb::handle h : stage_list) stages.push_back(stage_of<T>(nb::cast<nb::tuple>(h), q, 0));
    require(stages.size() <= MAX_PLACES, "the number of stages");
    q.stage = stages.data(), q.stages = long(stages.size());
    for (long r = 0; r < q.input.blocks; ++r) require(kept(q.input.block[r]), "a block of the inputs");
    if (table.is_none()) {
      q.x = matrix<T>(x, all, q.inputs, q.x_row, "x");
    } else {
      q.tokens = data<const long long>(x, all, "x");
      for (size_t i = 0; i < all; ++i)
        if (q.tokens[i] < 0 || q.tokens[i] >= q.inputs) throw nb::value_error("x has an index outside weight_ih");
      q.table = data<T>(table, q.inputs * q.input.blocks * padded_row<T>(q.hidden), "table");
    }
  }

  void read_units(nb::handle units) {
    nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu> array;
    if (!nb::try_cast(units, array, false)) throw nb::type_error("units have another dtype or layout");
    require(long(array.shape(1)) == q.hidden, "the width of the units");
    q.units = array.data(), q.unit_count = long(array.shape(0));
  }

  // Layout: (fields, 5) of array, first number, phase, period, whether narrow; the rows of units are not read.
  void read_fields(nb::list arrays, nb::handle layout) {
    nb::ndarray<const long long, nb::ndim<2>, nb::c_contig, nb::device::cpu> rows;
    if (!nb::try_cast(layout, rows, false) || rows.shape(1) != 5) throw nb::type_error("the layout has another dtype or shape");
    std::vector<nb::ndarray<T, nb::c_contig, nb::device::cpu>> held;
    for (nb::handle h : arrays) {
      held.emplace_back();
      if (!nb::try_cast(h, held.back(), false)) throw nb::type_error("an array of fields has another dtype or layout");
    }
    require(long(rows.shape(0)) >= q.unit_count && rows.shape(0) <= MAX_PLACES, "the number of fields");
    for (size_t i = 0; i < rows.shape(0); ++i) {
      const long long* row = rows.data() + 5 * i;
      const long units = row[4] ? q.narrow : q.hidden;
      fields.push_back({nullptr, 0, 1, units});
      if (long(i) < q.unit_count) continue;
      require(row[0] >= 0 && row[0] < (long long)held.size() && row[1] >= 0 && row[2] >= 0 && row[3] > 0, "a field");
      require(row[1] + row[3] * q.batch * padded_row<T>(units) <= (long long)held[row[0]].size(), "a field's size");
      fields.back() = {held[row[0]].data() + row[1], long(row[2]), long(row[3]), units};
    }
    q.fields = fields.data(), q.field_count = long(fields.size());
  }

  // (field, array): numbers (T B, units), or bytes (T B, 1 or units).
  void read_given(nb::tuple parts, size_t all) {
    Given<T> g = {};
    g.field = nb::cast<int>(parts[0]);
    require(g.field >= q.unit_count && g.field < q.field_count, "a field that is given");
    const long units = q.fields[g.field].units;
    nb::ndarray<const unsigned char, nb::ndim<2>, nb::c_contig, nb::device::cpu> bytes;
    if (nb::try_cast(parts[1], bytes, false)) {
      g.bytes = bytes.data(), g.row = long(bytes.shape(1));
      require(bytes.shape(0) == all && (g.row == 1 || g.row == units), "a mask");
    } else {
      g.numbers = matrix<T>(parts[1], all, units, g.row, "what is given at every step");
    }
    given.push_back(g);
  }

  bool kept(int field) const { return fields[field].phase + q.steps <= fields[field].period; }

  double products() const {
    double blocks = q.tokens ? 0 : double(q.input.blocks) * q.inputs;
    for (const ProgramStage<T>& s : stages)
      if (s.weight) blocks += double(s.blocks) * s.operands * s.in;
    return (blocks + 8.0) * q.hidden * double(q.steps) * q.batch;
  }

  template <class Run>
  void run_with(size_t (*work)(const ProgramLayer<T>&), const Run& kernel) {
    q.threads = threads_for(products(), 2e5);
    const Scratch scratch(work(q));
    run(q.threads, [&](const Worker& w) { kernel(q, scratch.get(), w); });
  }
};

template <class T>
const ProgramKernels<T>& program_kernels() {
  return arrays<T>().program;
}

template <class T>
void program_forward(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list arrays, nb::handle layout,
                     nb::list given, nb::tuple input, nb::list stages) {
  ProgramCall<T> call(dims, x, table, units, arrays, layout, given, input, stages);
  call.run_with(program_kernels<T>().forward_work, program_kernels<T>().forward);
}

template <class T>
void program_backward(const std::vector<long>& dims, nb::handle x, nb::handle table, nb::handle units, nb::list arrays, nb::handle layout,
                      nb::list given, nb::tuple input, nb::list stages, nb::handle dx, nb::handle totals) {
  ProgramCall<T> call(dims, x, table, units, arrays, layout, given, input, stages);
  ProgramLayer<T>& q = call.q;
  for (const ProgramStage<T>& s : call.stages) {
    for (long r = 0; s.weight && r < s.blocks; ++r) require(call.kept(s.block[r]), "a gradient of all steps");
    for (long j = 0; s.weight && j < s.operands; ++j) require(call.kept(s.operand[j]), "an operand of all steps");
    require(!s.weight || s.d_weight, "a missing gradient");
    require(!s.groups || s.blocks == 0 || s.hat, "normalised rows");
  }
  require(q.tokens || q.input.d_weight, "a missing gradient of the inputs' weight");
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = data<T>(dx, q.steps * q.batch * q.dx_row, "dx");
  q.totals = data<T>(totals, q.total_count * q.hidden, "totals");
  call.run_with(program_kernels<T>().backward_work, program_kernels<T>().backward);
}

template <class T>
void define_programs(nb::module_& m, const std::string& bits) {
  m.def(("program_forward" + bits).c_str(), &program_forward<T>, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg());
  m.def(("program_backward" + bits).c_str(), &program_backward<T>, nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
}
