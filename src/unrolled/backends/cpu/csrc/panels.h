// Weights packed for the tiles of tile.h, and the panels that units lie in.
#pragma once

#include "kernels.h"
#include "operands.h"
#include "simd.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

// Panels: H units in vectors of W, the last one padded. A panel brings `per` vectors (its gates); narrow panels are
// gathered into groups of about `vectors`, of even width: 13 are 4 3 3 3.
template <class T>
struct Groups {
  long panels = 0, per = 1, count = 0;
  Even cut;
  Groups() = default;
  Groups(long width, long per_, long least = 1, long vectors = VECTORS) : panels((width + W<T> - 1) / W<T>), per(per_) {
    const long most = per >= vectors ? 1 : vectors / per, few = least < panels ? least : panels;
    count = (panels + most - 1) / most;
    if (count < few) count = few;
    cut = Even(panels, count);
  }
  long first(long group) const { return cut.at(group); }  // its first panel
  int vectors(long group) const { return int((first(group + 1) - first(group)) * per); }
  // Where a group begins in a buffer packed (group, k, vectors, W) with `depth` values of k.
  long packed(long group, long depth) const { return first(group) * per * W<T> * depth; }
  long size(long depth) const { return panels * per * W<T> * depth; }
  // What is multiplied after a group of `base`, packed so: the one after it, or the first one again at the next step; null
  // where all of them stay in the second-level cache.
  const T* next(const T* base, long group, long depth) const {
    if (size(depth) * long(sizeof(T)) <= fetched_above) return nullptr;
    return base + (group + 1 < count ? packed(group + 1, depth) : 0);
  }
};

// Vectors of a group: while some numbers are widened, more sums can go on.
constexpr long vectors_of(Form form) { return form == Form::WHOLE ? VECTORS : MAX_VECTORS; }

// Weights (per H, depth), row (gate, unit) -> packed (group, k, panel, gate, W): the right operand of a product with
// their transpose. Groups [first, last). k are words; those of a part of the weights, `depth` numbers, may begin at word
// `at` of `whole`.
template <class T>
static void pack_transposed(T* to, const T* w, long ld, long hidden, long depth, const Groups<T>& g, long gfirst, long glast,
                            Operands form = Operands::WHOLE, long at = 0, long whole = 0) {
  typedef Vec<T> V;
  constexpr int n = W<T>;
  const long count = words(form, depth);
  if (!whole) whole = count;
  for (long group = gfirst; group < glast; ++group) {
    const int vectors = g.vectors(group);
    T* base = to + g.packed(group, whole) + at * vectors * n;
    for (int v = 0; v < vectors; ++v) {
      const long panel = g.first(group) + v / g.per, gate = v % g.per;
      const long units = hidden - panel * n < n ? hidden - panel * n : n;
      const T* rows = w + (gate * hidden + panel * n) * ld;
      for (long k = 0; k < count; k += n) {
        const long width = count - k < n ? count - k : n;
        V block[n];
        for (int i = 0; i < n; ++i) block[i] = i < units ? beside(form, rows + i * ld, depth, k) : V{};
        transpose<T>(block);
        for (int i = 0; i < width; ++i) store(base + ((k + i) * vectors + v) * n, block[i]);
      }
    }
  }
}

// Rows of a matrix, found by row(number) (null: zeros) -> packed (group, k, vectors, W); its columns in groups of vectors.
// k are words, of which there are `depth`.
template <class T, class Row>
static void pack_rows(T* to, const Row& row, long width, long depth, const Groups<T>& g, long kfirst, long klast,
                      Operands form = Operands::WHOLE) {
  constexpr int n = W<T>;
  const long per = per_word(form);
  for (long k = kfirst; k < klast; ++k) {
    const T *from = row(k * per), *next = per == 2 ? row(k * per + 1) : nullptr;
    for (long group = 0; group < g.count; ++group) {
      const int vectors = g.vectors(group);
      T* base = to + g.packed(group, depth) + k * vectors * n;
      for (int v = 0; v < vectors; ++v) {
        const long column = (g.first(group) + v) * n;
        const Vec<T> first = from ? load(from + column, width - column) : Vec<T>{};
        store(base + v * n, form == Operands::WHOLE ? first : above<T>(form, first, next ? load(next + column, width - column) : Vec<T>{}));
      }
    }
  }
}

// (number, H) rows -> (P, number, W), zeros in the padding; null gives zeros.
template <class T>
static void pack_units(T* to, const T* rows, long number, long hidden) {
  constexpr int n = W<T>;
  for (long panel = 0; panel * n < hidden; ++panel)
    for (long i = 0; i < number; ++i)
      store(to + (panel * number + i) * n, rows ? load(rows + i * hidden + panel * n, hidden - panel * n) : Vec<T>{});
}

}  // namespace unrolled::UNROLLED_ISA
