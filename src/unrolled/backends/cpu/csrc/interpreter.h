// The recurrence of any cell without a kernel of its own: products of tiles, and the cell's functions as programs
// (bytecode.h). What the programs and the fields are, backends/cpu/lowering.py says; nothing here knows a cell. A field is
// one number a unit, its rows (T B) or (B) of H padded to whole vectors, and what stands in the padding is never summed.
// Threads share the rows of the batch; a sum is one thread's, in one order.
#pragma once

#include <math.h>

#include "bytecode.h"
#include "kernels.h"
#include "linear.h"
#include "panels.h"
#include "pieces.h"
#include "simd.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

// What both directions share.
template <class T>
struct Interpreter {
  static constexpr long width = W<T>, block = BLOCK_BYTES / long(sizeof(T));
  static constexpr double EPSILON = 1e-5;  // as in scan.py

  const InterpretedLayer<T>& q;
  const long batch, rows, hidden, padded, band;  // band: rows of the batch that are interpreted together
  const Groups<T> wide, projected, inputs;       // columns of products: H, P, I
  T* unit_fields;                                // (units, band, Hp)
  T* registers;                                  // (threads, slots, block)
  long most_registers = 0;

  explicit Interpreter(const InterpretedLayer<T>& layer, Pieces& p)
      : q(layer), batch(layer.batch), rows(layer.steps * layer.batch), hidden(layer.hidden),
        padded(row_of(layer.hidden)), band(padded < block ? block / padded : 1),
        wide(layer.hidden, 1), projected(layer.projected, 1), inputs(layer.inputs, 1) {
    for (long s = 0; s < q.stages; ++s) {
      const Program& program = q.stage[s].program;
      const long needed = program.constant_count + program.registers;
      if (needed > most_registers) most_registers = needed;
    }
    unit_fields = p.template take<T>(q.unit_count * band * padded);
    registers = p.template take<T>(q.threads * most_registers * block);
  }

  static long row_of(long n) { return (n + width - 1) / width * width; }
  const Groups<T>& columns(long n) const { return n == hidden ? wide : projected; }

  // Rows of a field over all steps, for one that keeps them all.
  T* all(int field) const { return q.fields[field].base + q.fields[field].phase * batch * row_of(q.fields[field].units); }

  // Where every field stands at step t.
  void at_step(long t, T** at) const {
    for (long f = 0; f < q.unit_count; ++f) at[f] = unit_fields + f * band * padded;
    for (long f = q.unit_count; f < q.field_count; ++f) {
      const Field<T>& field = q.fields[f];
      at[f] = field.base + (t + field.phase) % field.period * batch * row_of(field.units);
    }
  }

  NOINLINE void spread_units(const Worker& w) const {
    if (w.rank != w.size - 1) return;
    for (long f = 0; f < q.unit_count; ++f)
      for (long b = 0; b < band; ++b)
        for (long i = 0; i < padded; i += width)
          store(unit_fields + (f * band + b) * padded + i, load(q.units + f * hidden + i, hidden - i));
  }

  NOINLINE void give(long t, T* const* at, long first, long last) const {
    for (long n = 0; n < q.given_count; ++n) {
      const Given<T>& given = q.given[n];
      const long units = q.fields[given.field].units;
      for (long b = first; b < last; ++b) {
        T* to = at[given.field] + b * row_of(units);
        const long row = (t * batch + b) * given.row;
        if (given.numbers)
          for (long i = 0; i < units; i += width) store(to + i, load(given.numbers + row + i, units - i));
        else
          for (long i = 0; i < units; ++i) to[i] = given.bytes[row + (given.row > 1 ? i : 0)];
      }
    }
  }

  NOINLINE void interpret(const InterpretedStage<T>& s, T* const* at, long first, long last, const Worker& w) const {
    const Program& p = s.program;
    const long length = row_of(s.out);
    T* slot[MAX_SLOTS];
    T* own = registers + w.rank * most_registers * block;
    for (long i = 0; i < p.constant_count + p.registers; ++i) slot[p.field_count + i] = own + i * block;
    for (long i = 0; i < p.constant_count; ++i)
      for (long k = 0; k < block; ++k) own[i * block + k] = T(p.constants[i]);
    for (long row = first; row < last; row += band) {
      const long count = (last - row < band ? last - row : band) * length;
      for (long i = 0; i < count; i += block) {
        for (long f = 0; f < p.field_count; ++f)
          slot[f] = at[p.fields[f]] + i + (p.fields[f] < q.unit_count ? 0 : row * length);
        run_program(p, slot, count - i < block ? count - i : block);
      }
    }
  }

  // Each row of a group of blocks gets mean 0 and variance 1, where it stands.
  NOINLINE void normalise(const InterpretedStage<T>& s, T* const* rows_of, T* inverse, long first, long last) const {
    typedef Vec<T> V;
    for (long b = first; b < last; ++b)
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        const long n = s.group[g] * hidden;
        V sum = {}, squares = {};
        each(s, start, g, [&](long k, long i, long left) { sum += load(rows_of[k] + b * padded + i, left); });
        const T mean = sum_of_lanes<T>(sum) / T(n);
        each(s, start, g, [&](long k, long i, long left) {
          T* x = rows_of[k] + b * padded + i;
          const V centred = load(x, left) - mean;
          store(x, centred);
          const V counted = left < width ? select(first_lanes<T>(left), centred, V{}) : centred;
          squares = fma(counted, counted, squares);
        });
        const T root = T(1 / ::sqrt(double(sum_of_lanes<T>(squares) / T(n)) + EPSILON));
        each(s, start, g, [&](long k, long i, long) {
          T* x = rows_of[k] + b * padded + i;
          store(x, load(x) * root);
        });
        inverse[b * s.groups + g] = root;
      }
  }

  // d, the gradient of normalised rows, becomes that of the rows.
  NOINLINE void normalise_backward(const InterpretedStage<T>& s, T* const* d, T* const* normalized, const T* inverse, long first,
                                   long last) const {
    typedef Vec<T> V;
    for (long b = first; b < last; ++b)
      for (long g = 0, start = 0; g < s.groups; start += s.group[g], ++g) {
        const long n = s.group[g] * hidden;
        V sum = {}, along = {};
        each(s, start, g, [&](long k, long i, long left) {
          const V dk = load(d[k] + b * padded + i, left);
          sum += dk;
          along = fma(dk, load(normalized[k] + b * padded + i, left), along);
        });
        const V mean = splat<V>(0) + sum_of_lanes<T>(sum) / T(n), slope = splat<V>(0) + sum_of_lanes<T>(along) / T(n);
        const V root = broadcast(inverse + b * s.groups + g);
        each(s, start, g, [&](long k, long i, long) {
          T* x = d[k] + b * padded + i;
          store(x, root * (load(x) - mean - load(normalized[k] + b * padded + i) * slope));
        });
      }
  }

  // f(block, unit, units left) for every vector of a group.
  template <class F>
  void each(const InterpretedStage<T>& s, long start, long g, const F& f) const {
    for (long k = start; k < start + s.group[g]; ++k)
      for (long i = 0; i < padded; i += width) f(k, i, hidden - i);
  }

  // Pointers of a list of fields, at one step.
  static void pick(const int* list, long count, T* const* at, T** out) {
    for (long k = 0; k < count; ++k) out[k] = at[list[k]];
  }
};

// Rows from `from`, ld apart, as the right operand of a product: (group, depth, vectors, W). This thread's share.
template <class T>
static NOINLINE void pack_right(T* to, const T* from, long ld, long count, long depth, const Groups<T>& columns, const Worker& w) {
  const Share mine(depth, w);
  pack_rows(to, [&](long k) { return from + k * ld; }, count, depth, columns, mine.first, mine.last);
}

template <class T>
struct InterpreterForward : Interpreter<T> {
  using S = Interpreter<T>;
  using S::q, S::batch, S::rows, S::hidden, S::padded, S::width, S::wide;
  T* packed_ih;       // (block, group, I, vectors, W)
  T* packed_hh[MAX_SLOTS];  // of each stage: (block, group, operands in, vectors, W)
  size_t bytes;

  InterpreterForward(const InterpretedLayer<T>& layer, char* work) : InterpreterForward(layer, Pieces(work)) {}

  InterpreterForward(const InterpretedLayer<T>& layer, Pieces p) : S(layer, p) {
    packed_ih = p.template take<T>(q.tokens ? 0 : q.input.blocks * wide.size(q.inputs));
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      packed_hh[n] = p.template take<T>(s.weight ? s.blocks * this->columns(s.out).size(depth(s)) : 0);
    }
    bytes = p.used;
  }

  static long depth(const InterpretedStage<T>& s) { return s.operands * s.in; }

  NOINLINE void pack(const Worker& w) const {
    const auto blocks = [&](T* to, const InterpretedStage<T>& s, long length) {
      const Groups<T>& columns = this->columns(s.out);
      const Share mine(columns.count, w);
      for (long r = 0; r < s.blocks; ++r)
        pack_transposed(to + r * columns.size(length), s.weight + r * s.out * s.columns, s.columns, s.out, length, columns, mine.first,
                        mine.last);
    };
    if (!q.tokens) blocks(packed_ih, q.input, q.inputs);
    for (long s = 0; s < q.stages; ++s)
      if (q.stage[s].weight) blocks(packed_hh[s], q.stage[s], depth(q.stage[s]));
    this->spread_units(w);
  }

  NOINLINE bool input_product(const Worker& w) const {
    for (long r = 0; r < q.input.blocks; ++r) {
      T* out = this->all(q.input.block[r]);
      if (!q.tokens) {
        if (!Multiply<T>::run({rows, q.inputs, q.x, q.x_row, packed_ih + r * wide.size(q.inputs), wide, out, padded, nullptr}, w))
          return false;
        continue;
      }
      const Share mine(rows, w);
      for (long i = mine.first; i < mine.last; ++i)
        copy(out + i * padded, q.table + (q.tokens[i] * q.input.blocks + r) * padded, padded);
    }
    if (!q.input.groups) return w.barrier();
    if (!w.barrier()) return false;
    T* planes[MAX_SLOTS];
    for (long r = 0; r < q.input.blocks; ++r) planes[r] = this->all(q.input.block[r]);
    const Share mine(rows, w);
    this->normalise(q.input, planes, q.input.inverse, mine.first, mine.last);
    return w.barrier();
  }

  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Share& mine) const {
    const Groups<T>& columns = this->columns(s.out);
    const long row = S::row_of(s.in), out_row = S::row_of(s.out);
    for (long r = 0; r < s.blocks; ++r)
      for (long j = 0; j < s.operands; ++j)
        if (s.weight)
          Multiply<T>::template tiles<false>({batch, depth(s), at[s.operand[j]], row, packed + r * columns.size(depth(s)), columns,
                                              at[s.block[r]], out_row, nullptr},
                                             mine, 0, columns.count, j * s.in, s.in, j > 0);
        else if (r == j)
          copy(at[s.block[r]] + mine.first * row, at[s.operand[j]] + mine.first * row, (mine.last - mine.first) * row);
  }

  void run(const Worker& w) const {
    pack(w);
    if (!w.barrier() || !input_product(w)) return;
    const Share mine(batch, w);
    T *at[MAX_SLOTS], *planes[MAX_SLOTS];
    for (long t = 0; t < q.steps; ++t) {
      if (t % 4 == 0 && !w.go_on()) return;
      this->at_step(t, at);
      this->give(t, at, mine.first, mine.last);
      for (long n = 0; n < q.stages; ++n) {
        const InterpretedStage<T>& s = q.stage[n];
        if (s.operands) product(s, packed_hh[n], at, mine);
        S::pick(s.block, s.blocks, at, planes);
        if (s.groups) this->normalise(s, planes, s.inverse + t * batch * s.groups, mine.first, mine.last);
        this->interpret(s, at, mine.first, mine.last, w);
      }
    }
  }
};

template <class T>
struct InterpreterBackward : Interpreter<T> {
  using S = Interpreter<T>;
  using S::q, S::batch, S::rows, S::hidden, S::padded, S::width, S::wide, S::inputs;
  T* packed_hh[MAX_SLOTS];  // of each stage: (operand, group, blocks out, vectors, W)
  T* packed_ih;              // (group, blocks H, vectors, W)
  T* right;                  // an operand of all steps, packed as the right one of a product: (group, T B, vectors, W)
  T* padded_weight;          // (H, columns padded) a block of a weight's gradient
  size_t bytes;

  InterpreterBackward(const InterpretedLayer<T>& layer, char* work) : InterpreterBackward(layer, Pieces(work)) {}

  InterpreterBackward(const InterpretedLayer<T>& layer, Pieces p) : S(layer, p) {
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      packed_hh[n] = p.template take<T>(s.weight ? s.operands * this->columns(s.in).size(s.blocks * s.out) : 0);
    }
    packed_ih = p.template take<T>(q.dx ? inputs.size(q.input.blocks * hidden) : 0);
    const long most = wide.panels > inputs.panels || q.tokens ? wide.panels : inputs.panels;
    right = p.template take<T>(most * width * rows);
    padded_weight = p.template take<T>(hidden * most * width);
    bytes = p.used;
  }

  NOINLINE void pack(const Worker& w) const {
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      if (!s.weight) continue;
      const long depth = s.blocks * s.out;
      const Groups<T>& columns = this->columns(s.in);
      for (long j = 0; j < s.operands; ++j)
        pack_right(packed_hh[n] + j * columns.size(depth), s.weight + j * s.in, s.columns, s.in, depth, columns, w);
    }
    if (q.dx) pack_right(packed_ih, q.input.weight, q.inputs, q.inputs, q.input.blocks * hidden, inputs, w);
    this->spread_units(w);
    for (long n = 0; n < q.accumulator_count; ++n) {
      const Share mine(batch * padded, w);
      T* total = q.fields[q.first_accumulator + n].base;
      for (long i = mine.first; i < mine.last; ++i) total[i] = 0;
    }
  }

  // The gradients of a stage's products, back to its operands.
  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Share& mine) const {
    const long depth = s.blocks * s.out, from_row = S::row_of(s.out), row = S::row_of(s.in);
    const Groups<T>& columns = this->columns(s.in);
    for (long j = 0; j < s.operands; ++j) {
      T* to = at[s.d_operand[j]];
      for (long r = 0; s.weight && r < s.blocks; ++r)
        Multiply<T>::template tiles<false>(
            {batch, depth, at[s.block[r]], from_row, packed + j * columns.size(depth), columns, to, row, nullptr}, mine, 0,
            columns.count, r * s.out, s.out, r > 0 || !s.overwrite);
      if (s.weight) continue;
      const T* from = at[s.block[j]];  // without a weight, an operand is a block
      for (long i = mine.first * row; i < mine.last * row; i += width) store(to + i, load(to + i) + load(from + i));
    }
  }

  void step(long t, T** at, const Share& mine, const Worker& w) const {
    const long first = mine.first, last = mine.last;
    T *d[MAX_SLOTS], *normalized[MAX_SLOTS];
    const auto normalise = [&](const InterpretedStage<T>& s) {
      if (!s.groups) return;
      S::pick(s.block, s.blocks, at, d);
      S::pick(s.normalized, s.blocks, at, normalized);
      this->normalise_backward(s, d, normalized, s.inverse + t * batch * s.groups, first, last);
    };
    this->at_step(t, at);
    this->give(t, at, first, last);
    for (long n = q.stages - 1; n >= 0; --n) {
      const InterpretedStage<T>& s = q.stage[n];
      this->interpret(s, at, first, last, w);
      normalise(s);
      product(s, packed_hh[n], at, mine);
    }
    normalise(q.input);
  }

  // d_weight (blocks out, columns), from column `start`: the blocks' gradients times an operand (T B, count) of all steps.
  NOINLINE bool weight_gradient(const InterpretedStage<T>& s, const T* operand, long row, const Groups<T>& columns, long count, long start,
                                const Worker& w) const {
    if (!w.barrier()) return false;  // the last one's products are done
    pack_right(right, operand, row, count, rows, columns, w);
    if (!w.barrier()) return false;
    const long ld = columns.panels * width, row_out = S::row_of(s.out), pieces = (rows + Multiply<T>::DEPTH - 1) / Multiply<T>::DEPTH;
    const Share mine = Multiply<T>::share(s.out, w);
    for (long r = 0; r < s.blocks; ++r) {
      for (long piece = 0; piece < pieces; ++piece) {
        if (!w.go_on()) return false;
        const long k = piece * rows / pieces, length = (piece + 1) * rows / pieces - k;
        Multiply<T>::template tiles<true>({s.out, rows, this->all(s.block[r]) + k * row_out, row_out, right, columns, padded_weight,
                                           ld, nullptr},
                                          mine, 0, columns.count, k, length, k > 0);
      }
      for (long i = mine.first; i < mine.last; ++i)
        copy(s.d_weight + (r * s.out + i) * s.columns + start, padded_weight + i * ld, count);
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
        for (long r = 0; r < q.input.blocks; ++r)
          Multiply<T>::template tiles<false>({rows, q.input.blocks * hidden, this->all(q.input.block[r]), padded, packed_ih, inputs, q.dx,
                                              q.dx_row, nullptr},
                                             part, g, g + 1, r * hidden, hidden, r > 0);
    }
    return true;
  }

  // One-hot inputs: gradients are added up by token, in the order of time.
  NOINLINE void token_gradient(const Worker& w) const {
    const Share mine(wide.panels, w);
    for (long r = 0; r < q.input.blocks; ++r) {
      const T* d = this->all(q.input.block[r]);
      for (long i = mine.first * width; i < mine.last * width; i += width) {
        for (long v = 0; v < q.inputs; ++v) store(q.table + (v * q.input.blocks + r) * padded + i, Vec<T>{});
        for (long k = 0; k < rows; ++k) {
          T* total = q.table + (q.tokens[k] * q.input.blocks + r) * padded + i;
          store(total, load(total) + load(d + k * padded + i));
        }
      }
    }
  }

  bool gradients(const Worker& w) const {
    const Share mine(wide.panels, w);
    for (long n = 0; n < q.accumulator_count; ++n)
      for (long i = mine.first * width; i < mine.last * width; i += width) {
        Vec<T> total = {};
        for (long b = 0; b < batch; ++b) total += load(q.fields[q.first_accumulator + n].base + b * padded + i);
        store(q.sums + n * hidden + i, total, hidden - i);
      }
    if (q.tokens)
      token_gradient(w);
    else if (!weight_gradient(q.input, q.x, q.x_row, inputs, q.inputs, 0, w))
      return false;
    if (q.dx && !input_gradient(w)) return false;
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      for (long j = 0; s.weight && j < s.operands; ++j)
        if (!weight_gradient(s, this->all(s.operand[j]), S::row_of(s.in), this->columns(s.in), s.in, j * s.in, w)) return false;
    }
    return true;
  }

  void run(const Worker& w) const {
    pack(w);
    if (!w.barrier()) return;
    const Share mine(batch, w);
    T* at[MAX_SLOTS];
    for (long t = q.steps - 1; t >= 0; --t) {
      if (t % 4 == 0 && !w.go_on()) return;
      step(t, at, mine, w);
    }
    if (w.barrier() && rows > 0) gradients(w);
  }
};

}  // namespace unrolled::UNROLLED_ISA
