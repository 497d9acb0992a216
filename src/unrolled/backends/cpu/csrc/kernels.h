// What an instruction set's kernels offer to the module: one table of functions, and the plain data they take.
#pragma once

#include <limits.h>
#include <stddef.h>

#include "team.h"

namespace unrolled {

constexpr int MAX_FIELDS = 4;  // state fields of a cell

// Products whose packed weights take more bytes fetch them ahead: the second-level cache's, as the caller tells.
inline long fetched_above = LONG_MAX;

// Whether this processor adds the products of pairs of bfloat16 to a sum in one instruction (of AVX-512 BF16).
inline bool multiplies_pairs = false;

// How the numbers of a packed weight are kept. All but WHOLE are of float weights, for products of rows one by one.
enum class Form { WHOLE, BFLOAT16, INT8 };

template <class T>
struct Rounding {
  Form form;
  const T* scale;  // of each row of the weight, for INT8; else null
};

// One of a kind for each type of numbers that the engine computes in.
template <template <class> class Kind>
struct PerType {
  Kind<float> f32;
  Kind<double> f64;

  template <class T>
  const Kind<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float))
      return f32;
    else
      return f64;
  }
};

// One layer in one direction. Letters as in scan.py: T steps, B rows, I inputs, H units, R row blocks of the weights,
// K columns of weight_hh. P panels of W units (one vector); Hp = P W is H padded. Padded units hold zeros.
template <class T>
struct Layer {
  long steps, batch, inputs, hidden;
  bool record;              // keep gates and every state
  bool by_panels;           // threads share the hidden units of every step, not the rows of the batch
  bool rounds;              // products round what they multiply to bfloat16 (operands.h)
  int threads;              // the most that will work on it
  const T* x;               // (T B, I), rows x_row apart; or null
  long x_row;
  const long long* tokens;  // (T B) one-hot inputs; or null
  bool table;               // make a row of pre-activations for every token first
  const T *weight_ih, *weight_hh;  // (R H, I), (R H, K)
  const T *bias_ih, *bias_hh;      // (R H) or null
  const T* params;                 // (number, H) per-unit parameters or null
  Rounding<T> form_ih, form_hh;    // of the weights
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

// What a program of the interpreter is made of: unary, binary, ternary operations, and comparisons, whose results
// are masks that only `select` reads.
#define UNROLLED_OPERATIONS(unary, binary, ternary, compare)                                                   \
  unary(copy, a) unary(neg, -a) unary(exp, exp(a)) unary(log, log(a)) unary(sigmoid, sigmoid(a))             \
  unary(tanh, tanh(a)) unary(sqrt, sqrt(a)) binary(add, a + b) binary(sub, a - b) binary(mul, a * b)         \
  binary(div, a / b) binary(maximum, maximum(a, b)) ternary(fma, fma(a, b, c)) ternary(fms, fms(a, b, c))    \
  ternary(fnma, fnma(a, b, c)) ternary(select, select((I)a, b, c)) compare(less, a < b)                      \
  compare(less_equal, a <= b) compare(greater, a > b) compare(greater_equal, a >= b) compare(equal, a == b)  \
  compare(not_equal, a != b)

constexpr int MAX_SLOTS = 256;  // slots of a program, and fields of a scan

// Straight-line code on whole vectors. A slot is a field of the scan, a constant or a register, in this order.
struct Program {
  const int* code;  // (length, 5): operation, the slot of its result, the slots of up to three arguments
  long length;
  const int* fields;  // which fields the first slots are
  long field_count;
  const double* constants;
  long constant_count, registers;
};

// One number a unit and row of the batch; at step t it is number (t + phase) % period of (period, B, units padded).
template <class T>
struct Field {
  T* base;
  long phase, period;
  long units;  // its width: mostly H
};

// What is given anew at every step, and becomes a field: numbers, or bytes as 0 and 1.
template <class T>
struct Given {
  const T* numbers;            // (T B, units), or (T B, 1) for all units alike; or null
  const unsigned char* bytes;  // the same
  long row;                    // from one row to the next
  bool alike;
  int field;
};

// A product, the normalisation of its rows, and the program after it (backward: before it). Lists hold fields' numbers;
// every field has a width of its own, but those of a program are as wide as each other.
template <class T>
struct InterpretedStage {
  Program program;
  long units;       // of the program's fields
  const T* weight;  // (units of all blocks, columns); null: the operand itself is normalised
  long columns;
  Rounding<T> form;  // of the weight
  T* d_weight;
  long rows, depth;  // units of all blocks, and of all operands (of the inputs' product: I)
  long operands;
  const int* operand;    // left operands; backward: as they were at every step
  const int* d_operand;  // where their gradients are added,
  const int* overwrite;  // or, if this is 1, written; of the inputs' product, the one number is dx's
  long blocks;
  const int* block;       // the products; backward: their gradients
  const int* normalized;  // backward: the products, normalised
  long heads;        // of the weight, which is 0 but for blocks on its diagonals
  long groups, grouped;
  const int* group;  // blocks that are normalised together, `grouped` in all
  T* inverse;        // (T B, groups) 1 / deviation
};

// One layer in one direction, of any cell, for the interpreter. The first `unit_count` fields hold numbers a unit, the
// same for all rows: they are read as (rows of a band, units padded).
template <class T>
struct InterpretedLayer {
  long steps, batch, inputs;
  bool by_units;  // threads share the units of every step, not the rows of the batch
  bool rounds;    // products round what they multiply to bfloat16 (operands.h)
  long span;      // steps whose inputs' products are taken at a time, where no step waits for another's product; else 0
  int threads;
  const T* x;  // (T B, I), x_row apart; or null
  long x_row;
  const long long* tokens;  // (T B) one-hot inputs; or null
  T* table;                 // (V, table_row) columns of weight_ih, backward their gradients; null without tokens
  long table_row;           // units of all blocks, each padded
  const T* units;           // of one such field after another
  long unit_count, field_count, given_count, stages;
  const Field<T>* fields;
  const Given<T>* given;
  InterpretedStage<T> input;  // the product of the inputs; its program is empty
  const InterpretedStage<T>* stage;
  T* dx;  // (T B, dx_row), dx_row being I padded; or null
  long dx_row;
  long first_accumulator, accumulator_count;  // fields that gather gradients over time; at first 0
  T* sums;                                    // theirs over the batch, one after another
};

template <class T>
struct InterpreterKernels {
  size_t (*forward_work)(const InterpretedLayer<T>&);  // bytes of scratch memory that a call needs
  void (*forward)(const InterpretedLayer<T>&, char* work, const Worker&);
  void (*prepare)(const InterpretedLayer<T>&, char* work, const Worker&);  // what of `forward` depends on the weights alone
  void (*step)(const InterpretedLayer<T>&, char* work, const Worker&);     // the rest
  size_t (*backward_work)(const InterpretedLayer<T>&);
  void (*backward)(const InterpretedLayer<T>&, char* work, const Worker&);
};

// y = x W^T + b, (rows, I) -> (rows, O); and backward.
template <class T>
struct Linear {
  long rows, inputs, outputs;
  bool rounds;      // products round what they multiply to bfloat16 (operands.h)
  const T* x;       // (rows, I), x_row apart
  long x_row;
  const T* weight;  // (O, I)
  const T* bias;    // (O) or null
  Rounding<T> form; // of the weight, where rows are multiplied one by one, by so many threads
  int threads;
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

// Sampling tokens from a language network, each fed back; B rows at once, each from its own numbers.
constexpr long PICK_BLOCK = 64;  // logits whose weights are added up first among themselves

template <class T>
struct Sampling {
  long layers;
  long rows;                             // B
  const Layer<T>* layer;                 // one step each, the first of which reads `tokens` or `inputs`; or null,
  const InterpretedLayer<T>* interpreted;  // where the cell has no kernels
  char** work;                           // of each layer, with the weights packed
  void (*step)(const Layer<T>&, char* work, const Worker&);
  void (*interpret)(const InterpretedLayer<T>&, char* work, const Worker&);
  const T* embedding;      // (V, E); or null
  long embedded;           // E
  T* inputs;               // (B, E) where the first layer reads its rows
  Linear<T> decoder;
  char* decoder_work;
  long states;             // fields of all layers
  T *const *before, *const *after;  // each of them before a step and after it, (B, Hp)
  long padded;             // Hp
  long blocks;             // of logits
  double *weights, *sums;  // scratch: (threads, blocks, PICK_BLOCK) and (threads, blocks)
  long long* tokens;       // (B) what was sampled last
  const double* u;         // (B, count) uniform in [0, 1); below 0 where nothing is to be sampled
  double temperature;      // 0: the likeliest
  long long* sampled;      // (B, count)
  long count;
  int* failed;             // 1 where logits are not finite
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
  long states, gates, rows, columns, params;  // rows and columns of weight_hh, each as a multiple of H
  PerType<ScanKernels> scan;
};

template <class T>
struct ArrayKernels {
  void (*exp)(const T* x, T* y, long n);   // for the tests of accuracy
  void (*sigmoid)(const T* x, T* y, long n);
  void (*tanh)(const T* x, T* y, long n);
  void (*log)(const T* x, T* y, long n);
  size_t (*linear_work)(const Linear<T>&);  // bytes of scratch memory that a call needs
  void (*linear)(const Linear<T>&, char* work, const Worker&);
  void (*linear_prepare)(const Linear<T>&, char* work, const Worker&);  // what of `linear` depends on the weights alone
  void (*sample)(const Sampling<T>&, const Worker&);
  size_t (*linear_backward_work)(const Linear<T>&);
  void (*linear_backward)(const Linear<T>&, char* work, const Worker&);
  void (*cross_entropy)(const Loss<T>&, const Worker&);
  double (*sum_of_squares)(const T* x, long n);
  void (*scale)(T* x, long n, T factor);
  const UpdateRule<T>* rules;
  int rule_count;
  InterpreterKernels<T> interpreter;
};

struct Kernels {
  const char* name;
  int bytes;  // of a vector
  const CellKernels* cells;
  int cell_count;
  PerType<ArrayKernels> arrays;
  double (*multiply_adds)(long rounds);
  float (*read)(const float* x, long n);
};

}  // namespace unrolled
