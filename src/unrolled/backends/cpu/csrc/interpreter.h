// The recurrence of any cell without a kernel of its own: products of tiles, and the cell's functions as programs
// (bytecode.h). What the programs and the fields are, backends/cpu/lowering.py says; nothing here knows a cell. A field is
// one number a unit, its rows (T B) or (B) of its units padded to whole vectors, and what stands in the padding is never summed.
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
  const long batch, rows;
  const Groups<T> inputs;        // columns of products: of x,
  Groups<T> columns[MAX_SLOTS];  // and of every field
  T* unit_field[MAX_SLOTS];      // (band, units padded)
  T* registers;                  // (threads, slots, block)
  long most_registers = 0;

  explicit Interpreter(const InterpretedLayer<T>& layer, Pieces& p)
      : q(layer), batch(layer.batch), rows(layer.steps * layer.batch), inputs(layer.inputs, 1) {
    for (int f = 0; f < q.field_count; ++f) columns[f] = f && units(f) == units(f - 1) ? columns[f - 1] : Groups<T>(units(f), 1);
    for (long s = 0; s < q.stages; ++s) {
      const Program& program = q.stage[s].program;
      const long needed = program.constant_count + program.registers;
      if (needed > most_registers) most_registers = needed;
    }
    for (int f = 0; f < q.unit_count; ++f) unit_field[f] = p.template take<T>(band_of(units(f)) * row(f));
    registers = p.template take<T>(q.threads * most_registers * block);
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
    for (int f = int(q.unit_count); f < q.field_count; ++f) {
      const Field<T>& field = q.fields[f];
      at[f] = field.base + (t + field.phase) % field.period * batch * row(f);
    }
  }

  NOINLINE void spread_units(const Worker& w) const {
    if (w.rank != w.size - 1) return;
    const T* from = q.units;
    for (int f = 0; f < q.unit_count; from += units(f), ++f)
      for (long b = 0; b < band_of(units(f)); ++b)
        for (long i = 0; i < units(f); i += width) store(unit_field[f] + b * row(f) + i, load(from + i, units(f) - i));
  }

  NOINLINE void give(long t, T* const* at, long first, long last) const {
    for (long n = 0; n < q.given_count; ++n) {
      const Given<T>& given = q.given[n];
      const long units = this->units(given.field);
      for (long b = first; b < last; ++b) {
        T* to = at[given.field] + b * row_of(units);
        const long row = (t * batch + b) * given.row;
        if (given.alike) {
          const Vec<T> all = splat<Vec<T>>(0) + (given.numbers ? given.numbers[row] : T(given.bytes[row]));
          for (long i = 0; i < units; i += width) store(to + i, all);
        } else if (given.numbers) {
          for (long i = 0; i < units; i += width) store(to + i, load(given.numbers + row + i, units - i));
        } else {
          for (long i = 0; i < units; ++i) to[i] = given.bytes[row + i];
        }
      }
    }
  }

  NOINLINE void interpret(const InterpretedStage<T>& s, T* const* at, long first, long last, const Worker& w) const {
    const Program& p = s.program;
    const long length = row_of(s.units), band = band_of(s.units);
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
        const long n = numbers(s, start, g);
        V sum = {}, squares = {};
        each(s, start, g, b, [&](long k, long i, long left) { sum += load(rows_of[k] + i, left); });
        const T mean = sum_of_lanes<T>(sum) / T(n);
        each(s, start, g, b, [&](long k, long i, long left) {
          T* x = rows_of[k] + i;
          const V centred = load(x, left) - mean;
          store(x, centred);
          const V counted = left < width ? select(first_lanes<T>(left), centred, V{}) : centred;
          squares = fma(counted, counted, squares);
        });
        const T root = T(1 / ::sqrt(double(sum_of_lanes<T>(squares) / T(n)) + EPSILON));
        each(s, start, g, b, [&](long k, long i, long) {
          T* x = rows_of[k] + i;
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
        const long n = numbers(s, start, g);
        V sum = {}, along = {};
        each(s, start, g, b, [&](long k, long i, long left) {
          const V dk = load(d[k] + i, left);
          sum += dk;
          along = fma(dk, load(normalized[k] + i, left), along);
        });
        const V mean = splat<V>(0) + sum_of_lanes<T>(sum) / T(n), slope = splat<V>(0) + sum_of_lanes<T>(along) / T(n);
        const V root = broadcast(inverse + b * s.groups + g);
        each(s, start, g, b, [&](long k, long i, long) {
          T* x = d[k] + i;
          store(x, root * (load(x) - mean - load(normalized[k] + i) * slope));
        });
      }
  }

  // f(block, number in it, units left) for every vector of row b of a group.
  template <class F>
  void each(const InterpretedStage<T>& s, long start, long g, long b, const F& f) const {
    for (long k = start; k < start + s.group[g]; ++k)
      for (long i = 0, n = units(s.block[k]), from = b * row_of(n); i < n; i += width) f(k, from + i, n - i);
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

// Rows from `from`, ld apart, as the right operand of a product: (group, depth, vectors, W). This thread's share.
template <class T>
static NOINLINE void pack_right(T* to, const T* from, long ld, long count, long depth, const Groups<T>& columns, const Worker& w) {
  const Share mine(depth, w);
  pack_rows(to, [&](long k) { return from + k * ld; }, count, depth, columns, mine.first, mine.last);
}

template <class T>
struct InterpreterForward : Interpreter<T> {
  using S = Interpreter<T>;
  using S::q, S::batch, S::rows, S::columns, S::width;
  T* packed_ih;             // (block, group, I, vectors, W)
  T* packed_hh[MAX_SLOTS];  // of each stage: (block, group, units of the operands, vectors, W)
  size_t bytes;

  InterpreterForward(const InterpretedLayer<T>& layer, char* work) : InterpreterForward(layer, Pieces(work)) {}

  InterpreterForward(const InterpretedLayer<T>& layer, Pieces p) : S(layer, p) {
    packed_ih = p.template take<T>(q.tokens ? 0 : size(q.input));
    for (long n = 0; n < q.stages; ++n) packed_hh[n] = p.template take<T>(q.stage[n].weight ? size(q.stage[n]) : 0);
    bytes = p.used;
  }

  // Numbers of a packed weight.
  long size(const InterpretedStage<T>& s) const {
    long sum = 0;
    for (long r = 0; r < s.blocks; ++r) sum += columns[s.block[r]].size(s.depth);
    return sum;
  }

  NOINLINE void pack(T* to, const InterpretedStage<T>& s, const Worker& w) const {
    const T* from = s.weight;
    for (long r = 0; r < s.blocks; ++r) {
      const Groups<T>& mine = columns[s.block[r]];
      const long units = this->units(s.block[r]);
      const Share groups(mine.count, w);
      pack_transposed(to, from, s.columns, units, s.depth, mine, groups.first, groups.last);
      to += mine.size(s.depth), from += units * s.columns;
    }
  }

  NOINLINE bool input_product(const Worker& w) const {
    const Share mine(rows, w);
    const T* packed = packed_ih;
    for (long r = 0, start = 0; r < q.input.blocks; ++r) {
      const int block = q.input.block[r];
      const long row = this->row(block);
      T* out = this->all(block);
      if (q.tokens)
        for (long i = mine.first; i < mine.last; ++i) copy(out + i * row, q.table + q.tokens[i] * q.table_row + start, row);
      else if (!Multiply<T>::run({rows, q.inputs, q.x, q.x_row, packed, columns[block], out, row, nullptr}, w))
        return false;
      packed += columns[block].size(q.inputs), start += row;
    }
    if (!q.input.groups) return w.barrier();
    if (!w.barrier()) return false;
    T* planes[MAX_SLOTS];
    for (long r = 0; r < q.input.blocks; ++r) planes[r] = this->all(q.input.block[r]);
    this->normalise(q.input, planes, q.input.inverse, mine.first, mine.last);
    return w.barrier();
  }

  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Share& mine) const {
    for (long r = 0; r < s.blocks; ++r) {
      const int block = s.block[r];
      const Groups<T>& to = columns[block];
      const long row = this->row(block);
      for (long j = 0, k = 0; s.weight && j < s.operands; k += this->units(s.operand[j]), ++j)
        Multiply<T>::template tiles<false>({batch, s.depth, at[s.operand[j]], this->row(s.operand[j]), packed, to, at[block], row, nullptr},
                                           mine, 0, to.count, k, this->units(s.operand[j]), j > 0);
      if (s.weight)
        packed += to.size(s.depth);
      else
        copy(at[block] + mine.first * row, at[s.operand[r]] + mine.first * row, (mine.last - mine.first) * row);
    }
  }

  void run(const Worker& w) const {
    if (!q.tokens) pack(packed_ih, q.input, w);
    for (long n = 0; n < q.stages; ++n)
      if (q.stage[n].weight) pack(packed_hh[n], q.stage[n], w);
    this->spread_units(w);
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
        size += mine.size(s.rows);
        panels = mine.panels > panels ? mine.panels : panels;
      }
      packed_hh[n] = p.template take<T>(size);
      if (size) count_units(s);
    }
    packed_ih = p.template take<T>(q.dx ? inputs.size(q.input.rows) : 0);
    right = p.template take<T>(panels * width * rows);
    padded_weight = p.template take<T>(panels * width * units);
    bytes = p.used;
  }

  NOINLINE void pack(const Worker& w) const {
    for (long n = 0; n < q.stages; ++n) {
      const InterpretedStage<T>& s = q.stage[n];
      T* to = packed_hh[n];
      for (long j = 0, start = 0; s.weight && j < s.operands; ++j) {
        const Groups<T>& mine = columns[s.operand[j]];
        const long units = this->units(s.operand[j]);
        pack_right(to, s.weight + start, s.columns, units, s.rows, mine, w);
        to += mine.size(s.rows), start += units;
      }
    }
    if (q.dx) pack_right(packed_ih, q.input.weight, q.inputs, q.inputs, q.input.rows, inputs, w);
    this->spread_units(w);
    for (long n = q.first_accumulator; n < q.first_accumulator + q.accumulator_count; ++n) {
      const Share mine(batch * this->row(int(n)), w);
      T* total = q.fields[n].base;
      for (long i = mine.first; i < mine.last; ++i) total[i] = 0;
    }
  }

  // The gradients of a stage's products, back to its operands.
  NOINLINE void product(const InterpretedStage<T>& s, const T* packed, T* const* at, const Share& mine) const {
    for (long j = 0; j < s.operands; ++j) {
      const Groups<T>& mine_to = columns[s.operand[j]];
      const long row = this->row(s.operand[j]);
      T* to = at[s.d_operand[j]];
      for (long r = 0, k = 0; s.weight && r < s.blocks; k += this->units(s.block[r]), ++r)
        Multiply<T>::template tiles<false>({batch, s.rows, at[s.block[r]], this->row(s.block[r]), packed, mine_to, to, row, nullptr},
                                           mine, 0, mine_to.count, k, this->units(s.block[r]), r > 0 || !s.overwrite);
      if (s.weight) {
        packed += mine_to.size(s.rows);
        continue;
      }
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

  // d_weight (units of the blocks, columns), from column `start`: the blocks' gradients times an operand (T B, count) of
  // all steps.
  NOINLINE bool weight_gradient(const InterpretedStage<T>& s, const T* operand, long row, const Groups<T>& columns, long count, long start,
                                const Worker& w) const {
    if (!w.barrier()) return false;  // the last one's products are done
    pack_right(right, operand, row, count, rows, columns, w);
    if (!w.barrier()) return false;
    const long ld = columns.panels * width, pieces = (rows + Multiply<T>::DEPTH - 1) / Multiply<T>::DEPTH;
    T* to = s.d_weight + start;
    for (long r = 0; r < s.blocks; ++r) {
      const long units = this->units(s.block[r]), row_out = this->row(s.block[r]);
      const Share mine = Multiply<T>::share(units, w);
      for (long piece = 0; piece < pieces; ++piece) {
        if (!w.go_on()) return false;
        const long k = piece * rows / pieces, length = (piece + 1) * rows / pieces - k;
        Multiply<T>::template tiles<true>({units, rows, this->all(s.block[r]) + k * row_out, row_out, right, columns, padded_weight,
                                           ld, nullptr},
                                          mine, 0, columns.count, k, length, k > 0);
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
        for (long r = 0, k = 0; r < q.input.blocks; k += this->units(q.input.block[r]), ++r)
          Multiply<T>::template tiles<false>({rows, q.input.rows, this->all(q.input.block[r]), this->row(q.input.block[r]), packed_ih,
                                              inputs, q.dx, q.dx_row, nullptr},
                                             part, g, g + 1, k, this->units(q.input.block[r]), r > 0 || !q.input.overwrite);
    }
    return true;
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
    T* sum = q.sums;
    for (int f = int(q.first_accumulator); f < q.first_accumulator + q.accumulator_count; sum += this->units(f), ++f) {
      const Share mine(this->row(f) / width, w);
      for (long i = mine.first * width; i < mine.last * width; i += width) {
        Vec<T> total = {};
        for (long b = 0; b < batch; ++b) total += load(q.fields[f].base + b * this->row(f) + i);
        store(sum + i, total, this->units(f) - i);
      }
    }
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
