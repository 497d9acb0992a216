// The recurrence of any cell without a kernel of its own: products of tiles, and the cell's functions as programs
// (bytecode.h). What the programs and the fields are, backends/cpu/lowering.py says; nothing here knows a cell. A field is
// one number a unit, its rows (T B) or (B) of its units padded to whole vectors, and what stands in the padding is never summed.
// Threads share the rows of the batch, or the units of a few rows; a sum is one thread's, in one order.
#pragma once

#include <math.h>

#include "bytecode.h"
#include "kernels.h"
#include "linear.h"
#include "panels.h"
#include "pieces.h"
#include "simd.h"
#include "small.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

// A thread's part of every step: rows of the batch, and the units of each of them that fall to it among those `across`.
struct Part {
  Share rows;
  Worker across;

  Part(long batch, bool by_units, const Worker& w)
      : rows(batch, by_units ? Worker{0, 1, w.shared} : w), across(by_units ? w : Worker{0, 1, w.shared}) {}
  // Waits for those who have the other units of these rows. False: leave at once.
  bool meet() const { return across.size == 1 || across.barrier(); }
  template <class T>
  Share groups(const Groups<T>& columns) const {
    return Share(columns.count, across);
  }
  template <class T>
  Share units(const Groups<T>& columns) const {
    const Share mine = groups(columns);
    return Share(columns.first(mine.first) * W<T>, columns.first(mine.last) * W<T>);
  }
};

// What both directions share.
template <class T>
struct Interpreter {
  static constexpr long width = W<T>, block = BLOCK_BYTES / long(sizeof(T));
  static constexpr double EPSILON = 1e-5;  // as in scan.py

  const InterpretedLayer<T>& q;
  const long batch, rows;
  const Operands form;           // of products
  const Groups<T> inputs;        // columns of products: of x,
  Groups<T> columns[MAX_SLOTS];  // and of every field
  T* unit_field[MAX_SLOTS];      // (band, units padded)
  T* slots;                      // (threads, slots, block): every stage's constants, then registers
  long slot_count = 0, register_slot = 0;  // a thread's; where its registers begin

  explicit Interpreter(const InterpretedLayer<T>& layer, Pieces& p)
      : q(layer), batch(layer.batch), rows(layer.steps * layer.batch), form(operands_of<T>(layer.rounds)),
        inputs(layer.inputs, 1) {
    // Where threads share the units, there is at least a group of columns for each if there are panels enough.
    const long least = q.by_units ? q.threads : 1;
    for (int f = 0; f < q.field_count; ++f)
      columns[f] = f && units(f) == units(f - 1) ? columns[f - 1] : Groups<T>(units(f), 1, least);
    long most_registers = 0;
    for (long n = 0; n < q.stages; ++n) {
      const Program& program = q.stage[n].program;
      register_slot += program.constant_count;
      if (program.registers > most_registers) most_registers = program.registers;
    }
    slot_count = register_slot + most_registers;
    for (int f = 0; f < q.unit_count; ++f) unit_field[f] = p.template take<T>(band_of(units(f)) * row(f));
    slots = p.template take<T>(q.threads * slot_count * block);
  }

  static long row_of(long n) { return (n + width - 1) / width * width; }
  // Rows of the batch that are interpreted together.
  static long band_of(long units) { return row_of(units) < block ? block / row_of(units) : 1; }
  long units(int field) const { return q.fields[field].units; }
  long row(int field) const { return row_of(units(field)); }

  // Rows of a field over all steps, for one that keeps them all.
  T* all(int field) const { return q.fields[field].base + q.fields[field].phase * batch * row(field); }

  // Where every field stands at step t.
  void at_step(long t, T** at) const {
    for (int f = 0; f < q.unit_count; ++f) at[f] = unit_field[f];
    for (int f = int(q.unit_count); f < q.field_count; ++f) at[f] = slot(f, t);
  }

  // Rows of a field at step t.
  T* slot(int f, long t) const {
    const Field<T>& field = q.fields[f];
    const long n = t + field.phase;
    return field.base + (n < field.period ? n : n % field.period) * batch * row(f);
  }

  // Numbers a unit, side by side for all rows of a band; and this thread's constants.
  NOINLINE void spread(const Worker& w) const {
    T* to = slots + w.rank * slot_count * block;
    for (long n = 0; n < q.stages; ++n)
      for (long i = 0; i < q.stage[n].program.constant_count; ++i, to += block)
        for (long k = 0; k < block; ++k) to[k] = T(q.stage[n].program.constants[i]);
    if (w.rank != w.size - 1) return;
    const T* from = q.units;
    for (int f = 0; f < q.unit_count; from += units(f), ++f)
      for (long b = 0; b < band_of(units(f)); ++b)
        for (long i = 0; i < units(f); i += width) store(unit_field[f] + b * row(f) + i, load(from + i, units(f) - i));
  }

  NOINLINE void give(long t, T* const* at, const Part& part) const {
    for (long n = 0; n < q.given_count; ++n) {
      const Given<T>& given = q.given[n];
      const long units = this->units(given.field);
      const Share mine = part.units(columns[given.field]);
      for (long b = part.rows.first; b < part.rows.last; ++b) {
        T* to = at[given.field] + b * row_of(units);
        const long row = (t * batch + b) * given.row;
        if (given.alike) {
          const Vec<T> all = splat<Vec<T>>(0) + (given.numbers ? given.numbers[row] : T(given.bytes[row]));
          for (long i = mine.first; i < mine.last; i += width) store(to + i, all);
        } else if (given.numbers) {
          for (long i = mine.first; i < mine.last; i += width) store(to + i, load(given.numbers + row + i, units - i));
        } else {
          for (long i = mine.first; i < mine.last && i < units; ++i) to[i] = given.bytes[row + i];
        }
      }
    }
  }

  // Runs the program of stage n on this thread's part, on some rows at a time where they are short and whole.
  NOINLINE void interpret(long n, T* const* at, const Part& part, const Worker& w) const {
    const InterpretedStage<T>& s = q.stage[n];
    const Program& p = s.program;
    if (!p.field_count) return;
    const Share mine = part.units(columns[p.fields[0]]);
    const long length = row_of(s.units), band = part.across.size == 1 ? band_of(s.units) : 1;
    T *slot[MAX_SLOTS], *base[MAX_SLOTS];
    long step[MAX_SLOTS];  // from one row to the next
    T* own = slots + w.rank * slot_count * block;
    for (long i = 0; i < p.registers; ++i) slot[p.field_count + p.constant_count + i] = own + (register_slot + i) * block;
    for (long before = 0; before < n; ++before) own += q.stage[before].program.constant_count * block;
    for (long i = 0; i < p.constant_count; ++i) slot[p.field_count + i] = own + i * block;
    for (long f = 0; f < p.field_count; ++f) base[f] = at[p.fields[f]], step[f] = p.fields[f] < q.unit_count ? 0 : length;
    for (long row = part.rows.first; row < part.rows.last; row += band) {
      const long rows_now = part.rows.last - row < band ? part.rows.last - row : band, end = (rows_now - 1) * length + mine.last;
      for (long i = mine.first; i < end; i += block) {
        for (long f = 0; f < p.field_count; ++f) slot[f] = base[f] + (row * step[f] + i);
        run_program(p, slot, end - i < block ? end - i : block);
      }
    }
  }

  // Each row of a group of blocks gets mean 0 and variance 1, where it stands. Where threads share the units of a row, each
  // adds up all of it, before any of it changes. False: leave at once.
  NOINLINE bool normalise(const InterpretedStage<T>& s, T* const* rows_of, T* inverse, const Part& part) const {
    typedef Vec<T> V;
    T mean[MAX_SLOTS], root[MAX_SLOTS];
    if (!part.meet()) return false;
    for (long b = part.rows.first; b < part.rows.last; ++b) {
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        const long n = numbers(s, start, g);
        V sum = {}, squares = {};
        each(s, start, g, b, nullptr, [&](long k, long i, long left) { sum += load(rows_of[k] + i, left); });
        mean[g] = sum_of_lanes<T>(sum) / T(n);
        each(s, start, g, b, nullptr, [&](long k, long i, long left) {
          const V centred = load(rows_of[k] + i, left) - mean[g];
          const V counted = left < width ? select(first_lanes<T>(left), centred, V{}) : centred;
          squares = fma(counted, counted, squares);
        });
        root[g] = T(1 / ::sqrt(double(sum_of_lanes<T>(squares) / T(n)) + EPSILON));
      }
      if (!part.meet()) return false;
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        each(s, start, g, b, &part, [&](long k, long i, long) {
          T* x = rows_of[k] + i;
          store(x, (load(x) - mean[g]) * root[g]);
        });
        if (part.across.rank == 0) inverse[b * s.groups + g] = root[g];
      }
    }
    return true;
  }

  // d, the gradient of normalised rows, becomes that of the rows.
  NOINLINE bool normalise_backward(const InterpretedStage<T>& s, T* const* d, T* const* normalized, const T* inverse,
                                   const Part& part) const {
    typedef Vec<T> V;
    T mean[MAX_SLOTS], slope[MAX_SLOTS];
    if (!part.meet()) return false;
    for (long b = part.rows.first; b < part.rows.last; ++b) {
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        const long n = numbers(s, start, g);
        V sum = {}, along = {};
        each(s, start, g, b, nullptr, [&](long k, long i, long left) {
          const V dk = load(d[k] + i, left);
          sum += dk;
          along = fma(dk, load(normalized[k] + i, left), along);
        });
        mean[g] = sum_of_lanes<T>(sum) / T(n), slope[g] = sum_of_lanes<T>(along) / T(n);
      }
      if (!part.meet()) return false;
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        const V root = broadcast(inverse + b * s.groups + g);
        each(s, start, g, b, &part, [&](long k, long i, long) {
          T* x = d[k] + i;
          store(x, root * (load(x) - mean[g] - load(normalized[k] + i) * slope[g]));
        });
      }
    }
    return true;
  }

  // Which of `other` units those from `first` to `last` of `units` have a weight with: all, or those of their heads.
  static Share met(const InterpretedStage<T>& s, long first, long last, long units, long other) {
    const long mine = (units + s.heads - 1) / s.heads, theirs = (other + s.heads - 1) / s.heads;
    const long from = first / mine * theirs, to = (last + mine - 1) / mine * theirs;
    return Share(from < other ? from : other, to < other ? to : other);
  }

  // Words of a sum over some fields' units, each its own.
  long words_of(long n) const { return words(form, n); }
  long words_of(const int* list, long count) const {
    long sum = 0;
    for (long i = 0; i < count; ++i) sum += words_of(units(list[i]));
    return sum;
  }

  // f(first group, last group, the other units that these meet), for some groups of columns of a stage's product: at once,
  // or one by one where there are heads. The other units are those of whole words.
  template <class F>
  void each_met(const InterpretedStage<T>& s, const Groups<T>& columns, const Share& some, long units, long other, const F& f) const {
    if (s.heads == 1) return f(some.first, some.last, Share(0L, other));
    for (long g = some.first; g < some.last; ++g) {
      const long last = columns.first(g + 1) * width;
      const Share own = met(s, columns.first(g) * width, last < units ? last : units, units, other);
      const long per = per_word(form), end = words_of(own.last) * per;
      f(g, g + 1, Share(own.first / per * per, end < other ? end : other));
    }
  }

  // f(block, number in it, units left) for every vector of row b of a group, or of a part of it.
  template <class F>
  void each(const InterpretedStage<T>& s, long start, long g, long b, const Part* part, const F& f) const {
    for (long k = start; k < start + s.group[g]; ++k) {
      const long n = units(s.block[k]), from = b * row_of(n);
      const Share all(0L, row_of(n)), mine = part ? part->units(columns[s.block[k]]) : all;
      for (long i = mine.first; i < mine.last; i += width) f(k, from + i, n - i);
    }
  }

  // Numbers of a row of a group.
  long numbers(const InterpretedStage<T>& s, long start, long g) const {
    long n = 0;
    for (long k = start; k < start + s.group[g]; ++k) n += units(s.block[k]);
    return n;
  }

  // Pointers of a list of fields, at one step.
  static void pick(const int* list, long count, T* const* at, T** out) {
    for (long k = 0; k < count; ++k) out[k] = at[list[k]];
  }
};

// Rows from `from`, ld apart, as the right operand of a product: (group, depth in words, vectors, W). This thread's share.
template <class T>
static NOINLINE void pack_right(T* to, const T* from, long ld, long count, long depth, const Groups<T>& columns, Operands form,
                                const Worker& w) {
  const Share mine(words(form, depth), w);
  pack_rows(to, [&](long k) { return k < depth ? from + k * ld : nullptr; }, count, words(form, depth), columns, mine.first, mine.last,
            form);
}

template <class T>
struct InterpreterForward : Interpreter<T> {
  using S = Interpreter<T>;
  using S::q, S::batch, S::rows, S::columns, S::width;
  T* packed_ih;             // (block, group, I, vectors, W)
  T* packed_hh[MAX_SLOTS];  // of each stage: (block, group, units of the operands, vectors, W)
  T *scale_ih, *scale_hh[MAX_SLOTS];  // (block, units padded), of weights in int8; else unused
  T* joined;                // (threads, row_length) all operands of a stage, for weights of fewer bits,
  short* whole;             // and as whole numbers
  long row_length = 0;
  size_t bytes;

  InterpreterForward(const InterpretedLayer<T>& layer, char* work) : InterpreterForward(layer, Pieces(work)) {}

  InterpreterForward(const InterpretedLayer<T>& layer, Pieces p) : S(layer, p) {
    packed_ih = p.template take<T>(q.tokens ? 0 : size(q.input));
    scale_ih = p.template take<T>(scales(q.input));
    for (long n = 0; n < q.stages; ++n) {
      packed_hh[n] = p.template take<T>(q.stage[n].weight ? size(q.stage[n]) : 0);
      scale_hh[n] = p.template take<T>(scales(q.stage[n]));
    }
    joined = p.template take<T>(q.threads * row_length), whole = p.template take<short>(q.threads * row_length);
    bytes = p.used;
  }

  // Numbers of its scales; and rows are to be as long as the longest that meets a weight of fewer bits.
  long scales(const InterpretedStage<T>& s) {
    if (s.form.form != Form::WHOLE && whole_row<T>(s.depth) > row_length) row_length = whole_row<T>(s.depth);
    long sum = 0;
    for (long r = 0; s.form.scale && r < s.blocks; ++r) sum += this->row(s.block[r]);
    return sum;
  }

  // Words of its sums: of x, or of all operands.
  long depth_of(const InterpretedStage<T>& s) const {
    return s.operands ? this->words_of(s.operand, s.operands) : this->words_of(s.depth);
  }

  // The weights of one block, of each operand apart.
  void pack_block(T* to, const T* from, const InterpretedStage<T>& s, long units, const Groups<T>& mine, const Share& groups) const {
    for (long j = 0, at = 0; j < (s.operands ? s.operands : 1); ++j) {
      const long depth = s.operands ? this->units(s.operand[j]) : s.depth;
      pack_transposed(to, from, s.columns, units, depth, mine, groups.first, groups.last, this->form, at, depth_of(s));
      at += this->words_of(depth), from += depth;
    }
  }

  // Numbers of a packed weight.
  long size(const InterpretedStage<T>& s) const {
    long sum = 0;
    for (long r = 0; r < s.blocks; ++r) sum += packed_size(columns[s.block[r]], depth_of(s), s.form.form);
    return sum;
  }

  NOINLINE void pack(T* to, T* scale, const InterpretedStage<T>& s, const Worker& w) const {
    const T* from = s.weight;
    Rounding<T> form = s.form;
    for (long r = 0; r < s.blocks; ++r) {
      const Groups<T>& mine = columns[s.block[r]];
      const long units = this->units(s.block[r]);
      const Share groups(mine.count, w);
      if (q.rounds)
        pack_block(to, from, s, units, mine, groups);
      else
        pack_weight(to, from, s.columns, units, s.depth, mine, groups.first, groups.last, form);
      to += packed_size(mine, depth_of(s), form.form), from += units * s.columns;
      if (!form.scale) continue;
      if (w.rank == 0) pack_units(scale, form.scale, 1, units);
      scale += this->row(s.block[r]), form.scale += units;
    }
  }

  // What does not depend on the inputs and the states.
  NOINLINE bool prepare(const Worker& w) const {
    if (!q.tokens) pack(packed_ih, scale_ih, q.input, w);
    for (long n = 0; n < q.stages; ++n)
      if (q.stage[n].weight) pack(packed_hh[n], scale_hh[n], q.stage[n], w);
    this->spread(w);
    return w.barrier();
  }

  // Row b times a weight of fewer bits; `blocks` are where the products go.
  NOINLINE void small_product(const InterpretedStage<T>& s, const SmallRow<T>& left, const T* packed, const T* scale, T* const* blocks,
                              long b, const Part& part) const {
    for (long r = 0; r < s.blocks; ++r) {
      const Groups<T>& to = columns[s.block[r]];
      const Share groups = part.groups(to);
      for (long g = groups.first; g < groups.last; ++g) {
        const long first = to.first(g) * width;
        multiply_small<T>(s.form.form, left, packed, to, g, s.depth, blocks[r] + b * this->row(s.block[r]) + first, nullptr, scale + first);
      }
      packed += packed_size(to, s.depth, s.form.form), scale += s.form.scale ? this->row(s.block[r]) : 0;
    }
  }

  SmallRow<T> row_of(const InterpretedStage<T>& s, const T* x, const Worker& w) const {
    return small_row(s.form.form, x, s.depth, whole + w.rank * row_length);
  }

  // All operands of row b of a stage, side by side.
  const T* join(const InterpretedStage<T>& s, T* const* at, long b, const Worker& w) const {
    const auto from = [&](long j) { return at[s.operand[j]] + b * this->row(s.operand[j]); };
    if (s.operands == 1) return from(0);
    T* row = joined + w.rank * row_length;
    for (long j = 0, k = 0; j < s.operands; k += this->units(s.operand[j]), ++j) copy(row + k, from(j), this->units(s.operand[j]));
    return row;
  }

  // Of all steps. Threads share their rows; where they share the units of a step, they do here too.
  NOINLINE bool input_product(const Part& part, const Worker& w) const {
    const Share mine = q.by_units ? Share(0L, rows) : Share(rows, w);
    const T* packed = packed_ih;
    T* planes[MAX_SLOTS];
    for (long r = 0; r < q.input.blocks; ++r) planes[r] = this->all(q.input.block[r]);
    const bool small = q.input.form.form != Form::WHOLE;
    for (long b = mine.first; small && b < mine.last; ++b)
      small_product(q.input, row_of(q.input, q.x + b * q.x_row, w), packed_ih, scale_ih, planes, b, part);
    for (long r = 0, start = 0; !small && r < q.input.blocks; ++r) {
      const int block = q.input.block[r];
      const Groups<T>& to = columns[block];
      const Share groups = part.groups(to), units = part.units(to);
      const long row = this->row(block);
      T* out = planes[r];
      const Product<T> product = {rows, this->words_of(q.inputs), q.x, q.x_row, packed, to, out, row, nullptr, this->form};
      if (q.tokens)
        for (long i = mine.first; i < mine.last; ++i)
          copy(out + i * row + units.first, q.table + q.tokens[i] * q.table_row + start + units.first, units.last - units.first);
      else if (q.by_units)
        Multiply<T>::template tiles<false>(product, mine, groups.first, groups.last, 0, q.inputs, false);
      else if (!Multiply<T>::run(product, q.inputs, w))
        return false;
      packed += to.size(this->words_of(q.inputs)), start += row;
    }
    if (!q.input.groups) return q.by_units || w.barrier();
    if (!w.barrier()) return false;
    return this->normalise(q.input, planes, q.input.inverse, Part(rows, false, w)) && w.barrier();
  }

  // Of a thread's part of steps [first, last), a span; tiles run along the longer of a step's rows and the steps.
  NOINLINE void input_product_of(long first, long last, const Part& part) const {
    struct Axis {
      long count, step;  // rows, and how far apart they are
    };
    const long steps = last - first, count = part.rows.last - part.rows.first;
    Axis inner = {count, 1}, outer = {steps, batch};
    if (count == batch)
      inner = {steps * count, 1}, outer = {1, 0};
    else if (steps > count)
      inner = {steps, batch}, outer = {count, 1};
    const T* packed = packed_ih;
    for (long r = 0, start = 0; r < q.input.blocks; ++r) {
      const int block = q.input.block[r];
      const Groups<T>& to = columns[block];
      const Share groups = part.groups(to), units = part.units(to);
      const long row = this->row(block);
      for (long g = groups.first; g < groups.last; ++g)
        for (long o = 0; o < outer.count; ++o) {
          const long from = part.rows.first + o * outer.step;
          T* out = this->slot(block, first) + from * row;
          if (q.tokens) {
            const long long* tokens = q.tokens + first * batch + from;
            for (long i = 0; g == groups.first && i < inner.count; ++i)
              copy(out + i * inner.step * row + units.first, q.table + tokens[i * inner.step] * q.table_row + start + units.first,
                   units.last - units.first);
          } else {
            const T* x = q.x + (first * batch + from) * q.x_row;
            Multiply<T>::template tiles<false>({rows, this->words_of(q.inputs), x, inner.step * q.x_row, packed, to, out,
                                                inner.step * row, nullptr, this->form},
                                               Share(0L, inner.count), g, g + 1, 0, q.inputs, false);
          }
        }
      packed += to.size(this->words_of(q.inputs)), start += row;
    }
  }

  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Part& part) const {
    for (long r = 0; r < s.blocks; ++r) {
      const int block = s.block[r];
      const Groups<T>& to = columns[block];
      const Share groups = part.groups(to), units = part.units(to);
      const long row = this->row(block);
      for (long j = 0, k = 0; s.weight && j < s.operands; k += this->words_of(this->units(s.operand[j])), ++j)
        this->each_met(s, to, groups, this->units(block), this->units(s.operand[j]), [&](long g0, long g1, const Share& met) {
          const T* from = at[s.operand[j]] + met.first;
          Multiply<T>::template tiles<false>({batch, depth_of(s), from, this->row(s.operand[j]), packed, to, at[block], row, nullptr,
                                              this->form},
                                             part.rows, g0, g1, k + this->words_of(met.first), met.last - met.first, j > 0);
        });
      packed += s.weight ? to.size(depth_of(s)) : 0;
      for (long b = part.rows.first; !s.weight && b < part.rows.last; ++b)
        copy(at[block] + b * row + units.first, at[s.operand[r]] + b * row + units.first, units.last - units.first);
    }
  }

  void run(const Worker& w) const {
    const Part part(batch, q.by_units, w);
    if (!q.span && !input_product(part, w)) return;
    T *at[MAX_SLOTS], *planes[MAX_SLOTS];
    for (long t = 0; t < q.steps; ++t) {
      if (t % 4 == 0 && !w.go_on()) return;
      if (q.span && t % q.span == 0) input_product_of(t, t + q.span < q.steps ? t + q.span : q.steps, part);
      this->at_step(t, at);
      this->give(t, at, part);
      for (long n = 0; n < q.stages; ++n) {
        const InterpretedStage<T>& s = q.stage[n];
        S::pick(s.block, s.blocks, at, planes);
        const bool small = s.form.form != Form::WHOLE;
        for (long b = part.rows.first; small && b < part.rows.last; ++b)
          small_product(s, row_of(s, join(s, at, b, w), w), packed_hh[n], scale_hh[n], planes, b, part);
        if (!small && s.operands) product(s, packed_hh[n], at, part);
        if (s.groups && !this->normalise(s, planes, s.inverse + t * batch * s.groups, part)) return;
        this->interpret(n, at, part, w);
        if (!q.span && !part.meet()) return;  // the next product reads what others have written
      }
    }
  }
};

template <class T>
struct InterpreterBackward : Interpreter<T> {
  using S = Interpreter<T>;
  using S::q, S::batch, S::rows, S::width, S::columns, S::inputs;
  T* packed_hh[MAX_SLOTS];  // of each stage: (operand, group, units of the blocks, vectors, W)
  T* packed_ih;             // (group, units of the blocks, vectors, W)
  T* right;                 // an operand of all steps, packed as the right one of a product: (group, T B, vectors, W)
  T* padded_weight;         // (units, columns padded) a block of a weight's gradient
  size_t bytes;

  InterpreterBackward(const InterpretedLayer<T>& layer, char* work) : InterpreterBackward(layer, Pieces(work)) {}

  InterpreterBackward(const InterpretedLayer<T>& layer, Pieces p) : S(layer, p) {
    long panels = q.tokens ? 0 : inputs.panels, units = 0;  // the most
    const auto count_units = [&](const InterpretedStage<T>& s) {
      for (long r = 0; r < s.blocks; ++r) units = this->units(s.block[r]) > units ? this->units(s.block[r]) : units;
    };
    count_units(q.input);
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      long size = 0;
      for (long j = 0; s.weight && j < s.operands; ++j) {
        const Groups<T>& mine = columns[s.operand[j]];
        size += mine.size(height_of(s));
        panels = mine.panels > panels ? mine.panels : panels;
      }
      packed_hh[n] = p.template take<T>(size);
      if (size) count_units(s);
    }
    packed_ih = p.template take<T>(q.dx ? inputs.size(height_of(q.input)) : 0);
    right = p.template take<T>(panels * width * (q.span && q.span < q.steps ? q.span * batch : rows));
    padded_weight = p.template take<T>(panels * width * (q.span ? q.input.rows : units));
    bytes = p.used;
  }

  // Words of a sum over the units of all blocks.
  long height_of(const InterpretedStage<T>& s) const { return this->words_of(s.block, s.blocks); }

  // A weight's columns from `start` on as the right operand of such a sum.
  NOINLINE void pack_blocks(T* to, const InterpretedStage<T>& s, long start, long count, const Groups<T>& mine, const Worker& w) const {
    const Share part(height_of(s), w);
    const long per = per_word(this->form);
    const auto row_at = [&](long k) {
      const T* from = s.weight + start;
      for (long r = 0; r < s.blocks; ++r) {
        const long units = this->units(s.block[r]), own = this->words_of(units) * per;
        if (k < own) return k < units ? from + k * s.columns : nullptr;
        k -= own, from += units * s.columns;
      }
      return static_cast<const T*>(nullptr);
    };
    pack_rows(to, row_at, count, height_of(s), mine, part.first, part.last, this->form);
  }

  NOINLINE bool prepare(const Worker& w) const {
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      T* to = packed_hh[n];
      for (long j = 0, start = 0; s.weight && j < s.operands; ++j) {
        const Groups<T>& mine = columns[s.operand[j]];
        const long units = this->units(s.operand[j]);
        pack_blocks(to, s, start, units, mine, w);
        to += mine.size(height_of(s)), start += units;
      }
    }
    if (q.dx) pack_blocks(packed_ih, q.input, 0, q.inputs, inputs, w);
    this->spread(w);
    for (long n = q.first_accumulator; n < q.first_accumulator + q.accumulator_count; ++n) {
      const Share mine(batch * this->row(int(n)), w);
      T* total = q.fields[n].base;
      for (long i = mine.first; i < mine.last; ++i) total[i] = 0;
    }
    return w.barrier();
  }

  // The gradients of a stage's products, back to its operands.
  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Part& part) const {
    for (long j = 0; j < s.operands; ++j) {
      const Groups<T>& columns_to = columns[s.operand[j]];
      const Share groups = part.groups(columns_to), units = part.units(columns_to);
      const long row = this->row(s.operand[j]);
      T* to = at[s.d_operand[j]];
      for (long r = 0, k = 0; s.weight && r < s.blocks; k += this->words_of(this->units(s.block[r])), ++r)
        this->each_met(s, columns_to, groups, this->units(s.operand[j]), this->units(s.block[r]), [&](long g0, long g1, const Share& met) {
          const T* from = at[s.block[r]] + met.first;
          Multiply<T>::template tiles<false>({batch, height_of(s), from, this->row(s.block[r]), packed, columns_to, to, row, nullptr,
                                              this->form},
                                             part.rows, g0, g1, k + this->words_of(met.first), met.last - met.first,
                                             r > 0 || !s.overwrite[j]);
        });
      if (s.weight) {
        packed += columns_to.size(height_of(s));
        continue;
      }
      const T* from = at[s.block[j]];  // without a weight, an operand is a block
      for (long b = part.rows.first; b < part.rows.last; ++b)
        for (long i = b * row + units.first; i < b * row + units.last; i += width)
          store(to + i, s.overwrite[j] ? load(from + i) : load(to + i) + load(from + i));
    }
  }

  NOINLINE bool step(long t, T** at, const Part& part, const Worker& w) const {
    T *d[MAX_SLOTS], *normalized[MAX_SLOTS];
    this->at_step(t, at);
    this->give(t, at, part);
    for (long n = q.stages - 1; n >= 0; --n) {
      const InterpretedStage<T>& s = q.stage[n];
      this->interpret(n, at, part, w);
      if (s.groups) {
        S::pick(s.block, s.blocks, at, d);
        S::pick(s.normalized, s.grouped, at, normalized);
        if (!this->normalise_backward(s, d, normalized, s.inverse + t * batch * s.groups, part)) return false;
      }
      if (!s.operands) continue;
      if (!part.meet()) return false;  // the product reads what others have written
      product(s, packed_hh[n], at, part);
    }
    return true;
  }

  // The gradients of the inputs' normalised products become those of the products, for all steps.
  NOINLINE bool normalise_inputs(const Worker& w) const {
    T *d[MAX_SLOTS], *normalized[MAX_SLOTS];
    for (long r = 0; r < q.input.grouped; ++r) d[r] = this->all(q.input.block[r]), normalized[r] = this->all(q.input.normalized[r]);
    return this->normalise_backward(q.input, d, normalized, q.input.inverse, Part(rows, false, w)) && w.barrier();
  }

  // d_weight (units of the blocks, columns), from column `start`: the blocks' gradients times an operand (T B, count) of
  // all steps. With heads, what is 0 in the weight is not set.
  NOINLINE bool weight_gradient(const InterpretedStage<T>& s, const T* operand, long row, const Groups<T>& columns, long count, long start,
                                const Worker& w) const {
    if (!w.barrier()) return false;  // the last one's products are done
    pack_right(right, operand, row, count, rows, columns, this->form, w);
    if (!w.barrier()) return false;
    const long ld = columns.panels * width, per = per_word(this->form), depth = this->words_of(rows);
    const long pieces = (depth + Multiply<T>::DEPTH - 1) / Multiply<T>::DEPTH;
    T* to = s.d_weight + start;
    for (long r = 0; r < s.blocks; ++r) {
      const long units = this->units(s.block[r]), row_out = this->row(s.block[r]);
      // Blocks of another width are shared out otherwise: the last one's must have been copied.
      if (r > 0 && units != this->units(s.block[r - 1]) && !w.barrier()) return false;
      const Share mine = Multiply<T>::share(units, w);
      for (long piece = 0; piece < pieces; ++piece) {
        if (!w.go_on()) return false;
        const long k = piece * depth / pieces, end = (piece + 1) * depth / pieces * per;
        const long length = (end < rows ? end : rows) - k * per;
        const T* from = this->all(s.block[r]) + k * per * row_out;
        this->each_met(s, columns, Share(0L, columns.count), count, units, [&](long g0, long g1, const Share& met) {
          const Share part(met.first > mine.first ? met.first : mine.first, met.last < mine.last ? met.last : mine.last);
          if (part.first < part.last)
            Multiply<T>::template tiles<true>({units, depth, from, row_out, right, columns, padded_weight, ld, nullptr, this->form}, part,
                                              g0, g1, k, length, k > 0);
        });
      }
      for (long i = mine.first; i < mine.last; ++i) copy(to + i * s.columns, padded_weight + i * ld, count);
      to += units * s.columns;
    }
    return true;
  }

  NOINLINE bool input_gradient(const Worker& w) const {
    const Share mine(rows, w);
    constexpr long chunk = 96;
    for (long first = mine.first; first < mine.last; first += chunk) {
      if (!w.go_on()) return false;
      Share part = mine;
      part.first = first, part.last = first + chunk < mine.last ? first + chunk : mine.last;
      for (long g = 0; g < inputs.count; ++g)
        for (long r = 0, k = 0; r < q.input.blocks; k += this->words_of(this->units(q.input.block[r])), ++r)
          Multiply<T>::template tiles<false>({rows, height_of(q.input), this->all(q.input.block[r]), this->row(q.input.block[r]),
                                              packed_ih, inputs, q.dx, q.dx_row, nullptr, this->form},
                                             part, g, g + 1, k, this->units(q.input.block[r]), r > 0 || !*q.input.overwrite);
    }
    return true;
  }

  // What the steps [first, last) of a span, whose programs have run, add to the gradients of weight_ih and of x.
  NOINLINE bool span_gradients(long first, long last, const Worker& w) const {
    const long count = (last - first) * batch, ld = inputs.panels * width;
    if (!w.barrier()) return false;  // the products of the span before are done, and all programs
    pack_right(right, q.x + first * batch * q.x_row, q.x_row, q.inputs, count, inputs, this->form, w);
    const Share mine(count, w);
    for (long g = 0; q.dx && g < inputs.count; ++g)
      for (long r = 0, k = 0; r < q.input.blocks; k += this->words_of(this->units(q.input.block[r])), ++r)
        Multiply<T>::template tiles<false>({count, height_of(q.input), this->slot(q.input.block[r], first), this->row(q.input.block[r]),
                                            packed_ih, inputs, q.dx + first * batch * q.dx_row, q.dx_row, nullptr, this->form},
                                           mine, g, g + 1, k, this->units(q.input.block[r]), r > 0 || !*q.input.overwrite);
    if (!w.barrier()) return false;
    T *to = padded_weight, *out = q.input.d_weight;
    for (long r = 0; r < q.input.blocks; ++r) {
      const int block = q.input.block[r];
      const long units = this->units(block);
      const Share rows_of = Multiply<T>::share(units, w);
      Multiply<T>::template tiles<true>({units, this->words_of(count), this->slot(block, first), this->row(block), right, inputs, to, ld,
                                         nullptr, this->form},
                                        rows_of, 0, inputs.count, 0, count, last < q.steps);
      for (long i = rows_of.first; first == 0 && i < rows_of.last; ++i) copy(out + i * q.inputs, to + i * ld, q.inputs);
      to += units * ld, out += units * q.inputs;
    }
    return first == 0 || w.barrier();  // the next span's programs write where these products read
  }

  // One-hot inputs: gradients are added up by token, in the order of time.
  NOINLINE void token_gradient(const Worker& w) const {
    for (long r = 0, start = 0; r < q.input.blocks; start += this->row(q.input.block[r]), ++r) {
      const T* d = this->all(q.input.block[r]);
      const long row = this->row(q.input.block[r]);
      const Share mine(row / width, w);
      for (long i = mine.first * width; i < mine.last * width; i += width) {
        for (long v = 0; v < q.inputs; ++v) store(q.table + v * q.table_row + start + i, Vec<T>{});
        for (long k = 0; k < rows; ++k) {
          T* total = q.table + q.tokens[k] * q.table_row + start + i;
          store(total, load(total) + load(d + k * row + i));
        }
      }
    }
  }

  bool gradients(const Worker& w) const {
    if (q.input.groups && !normalise_inputs(w)) return false;
    T* sum = q.sums;
    for (int f = int(q.first_accumulator); f < q.first_accumulator + q.accumulator_count; sum += this->units(f), ++f) {
      const Share mine(this->row(f) / width, w);
      for (long i = mine.first * width; i < mine.last * width; i += width) {
        Vec<T> total = {};
        for (long b = 0; b < batch; ++b) total += load(q.fields[f].base + b * this->row(f) + i);
        store(sum + i, total, this->units(f) - i);
      }
    }
    if (q.span) return true;
    if (q.tokens)
      token_gradient(w);
    else if (!weight_gradient(q.input, q.x, q.x_row, inputs, q.inputs, 0, w))
      return false;
    if (q.dx && !input_gradient(w)) return false;
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      for (long j = 0, start = 0; s.weight && j < s.operands; start += this->units(s.operand[j]), ++j)
        if (!weight_gradient(s, this->all(s.operand[j]), this->row(s.operand[j]), columns[s.operand[j]], this->units(s.operand[j]), start, w))
          return false;
    }
    return true;
  }

  void run(const Worker& w) const {
    if (!prepare(w)) return;
    const Part part(batch, q.by_units, w);
    T* at[MAX_SLOTS];
    for (long t = q.steps - 1, last = q.steps; t >= 0; --t) {
      if ((t % 4 == 0 && !w.go_on()) || !step(t, at, part, w)) return;
      if (!q.span || t % q.span) continue;
      if (!span_gradients(t, last, w)) return;
      last = t;
    }
    if (w.barrier() && rows > 0) gradients(w);
  }
};

}  // namespace unrolled::UNROLLED_ISA
