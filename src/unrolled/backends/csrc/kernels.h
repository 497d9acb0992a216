// What an instruction set's kernels offer to the module: one table of functions, and the plain data they take.
#pragma once

#include <stddef.h>

#include "team.h"

namespace unrolled {

constexpr int MAX_FIELDS = 4;  // state fields of a cell

// One layer in one direction. Letters as in scan.py: T steps, B rows, I inputs, H units, R row blocks of the weights,
// K columns of weight_hh. P panels of W units (one vector); Hp = P W is H padded. Padded units hold zeros.
template <class T>
struct Layer {
  long steps, batch, inputs, hidden;
  bool record;              // keep gates and every state
  bool by_panels;           // threads share the hidden units of every step, not the rows of the batch
  int threads;              // the most that will work on it
  const T* x;               // (T B, I), rows x_row apart; or null
  long x_row;
  const long long* tokens;  // (T B) one-hot inputs; or null
  bool table;               // make a row of pre-activations for every token first
  const T *weight_ih, *weight_hh;  // (R H, I), (R H, K)
  const T *bias_ih, *bias_hh;      // (R H) or null
  const T* params;                 // (number, H) per-unit parameters or null
  const unsigned char* live;              // (T B) or null; 0: the row's sequence is over
  const unsigned char* keep[MAX_FIELDS];  // (T B, H) or null; 1: the unit keeps its old state
  T* states[MAX_FIELDS];    // (T + 1, B, Hp); without a record (2, B, Hp), used in turn, but for the first field
  T* proposed[MAX_FIELDS];  // (T, B, Hp) new states before `keep`; or null
  bool plain;               // no masks: neither live nor keep nor proposed nor y
  T* gates;                 // (T, P, B, gates, W): the tape; null without a record
  T* y;                     // (T B, Hp) outputs with zeros where a row is over; or null where `live` is
  // Backward.
  const T* dy;            // (T B, H), rows dy_row apart
  long dy_row;
  T* dstate[MAX_FIELDS];  // (B, Hp): gradient of the final state, then of the initial one
  T* dx;                  // (T B, dx_row), dx_row being I padded; or null
  long dx_row;
  T *d_weight_ih, *d_weight_hh, *d_bias_ih, *d_bias_hh, *d_params;  // as the parameters; null where there is none
};

template <class T>
struct ScanKernels {
  size_t (*forward_work)(const Layer<T>&);  // bytes of scratch memory that a call needs
  void (*forward)(const Layer<T>&, char* work, const Worker&);
  void (*prepare)(const Layer<T>&, char* work, const Worker&);  // what of `forward` depends on the weights alone
  void (*step)(const Layer<T>&, char* work, const Worker&);     // the rest
  size_t (*backward_work)(const Layer<T>&);
  void (*backward)(const Layer<T>&, char* work, const Worker&);
};

// y = x W^T + b, (rows, I) -> (rows, O); and backward.
template <class T>
struct Linear {
  long rows, inputs, outputs;
  const T* x;       // (rows, I), x_row apart
  long x_row;
  const T* weight;  // (O, I)
  const T* bias;    // (O) or null
  T* y;             // (rows, y_row), y_row being O padded
  long y_row;
  // Backward.
  const T* dy;      // (rows, O), dy_row apart
  long dy_row;
  T* dx;            // (rows, dx_row), dx_row being I padded
  long dx_row;
  T* d_weight;      // (O, I)
  T* d_bias;        // (O)
};

// Softmax cross-entropy of each row.
template <class T>
struct Loss {
  long rows, size;          // N targets among V symbols
  const T* logits;          // (N, V), logits_row apart
  long logits_row;
  const long long* targets; // (N)
  double* nats;             // (N)
  double scale;             // of the gradient
  double smoothing;         // share of a target that is spread over all symbols, in the gradient
  T* d;                     // (N, V), d_row apart, may be the logits; or null
  long d_row;
};

// Drawing tokens from a language network, each fed back.
template <class T>
struct Drawing {
  long layers;
  Layer<T>* layer;  // one row, one step each; the first takes `token`, or its row of the embedding
  char** work;      // of each layer, with the weights packed
  void (*step)(const Layer<T>&, char* work, const Worker&);
  const T* embedding;      // (V, E); or null
  Linear<T> decoder;       // one row
  char* decoder_work;
  int states;              // fields
  long padded;             // Hp
  double* weights;         // (V + 64) scratch
  long long* token;        // what was drawn last
  const double* u;         // (count) uniform in [0, 1)
  double temperature;      // 0: the likeliest
  long long* drawn;        // (count)
  long count;
};

constexpr int UPDATE_NUMBERS = 8;

// One parameter's update.
template <class T>
struct Update {
  T* p;           // changed
  const T* g;
  T* moments[2];  // changed; null where the rule has fewer
  T numbers[UPDATE_NUMBERS];
  T decay;        // L2 penalty: decay p joins g
};

template <class T>
struct UpdateRule {
  const char* name;
  int moments;
  void (*run)(const Update<T>&, long first, long last);
};

struct CellKernels {
  const char* name;
  ScanKernels<float> f32;
  ScanKernels<double> f64;
};

template <class T>
struct ArrayKernels {
  void (*exp)(const T* x, T* y, long n);   // for the tests of accuracy
  void (*sigmoid)(const T* x, T* y, long n);
  void (*tanh)(const T* x, T* y, long n);
  size_t (*linear_work)(const Linear<T>&);  // bytes of scratch memory that a call needs
  void (*linear)(const Linear<T>&, char* work, const Worker&);
  void (*linear_prepare)(const Linear<T>&, char* work, const Worker&);  // what of `linear` depends on the weights alone
  void (*draw)(const Drawing<T>&, const Worker&);
  size_t (*linear_backward_work)(const Linear<T>&);
  void (*linear_backward)(const Linear<T>&, char* work, const Worker&);
  void (*cross_entropy)(const Loss<T>&, const Worker&);
  double (*sum_of_squares)(const T* x, long n);
  void (*scale)(T* x, long n, T factor);
  const UpdateRule<T>* rules;
  int rule_count;
};

struct Kernels {
  const char* name;
  int bytes;  // of a vector
  const CellKernels* cells;
  int cell_count;
  ArrayKernels<float> f32;
  ArrayKernels<double> f64;
};

}  // namespace unrolled
