// Drawing tokens one after the other from a language network, in one call.
#pragma once

// The first index whose cumulated weight exceeds u times the sum of all; the rule is that of unrolled/sample.py.
template <class T>
static long long pick(const Drawing<T>& q, double u) {
  constexpr int n = W<double>;
  const long size = q.decoder.outputs;
  const T* logits = q.decoder.y;
  long long best = 0;
  for (long i = 1; i < size; ++i)
    if (logits[i] > logits[best]) best = i;
  if (q.temperature == 0) return best;
  double* weights = q.weights;
  for (long i = 0; i < size; ++i) weights[i] = double(logits[i] - logits[best]) / q.temperature;
  for (long i = 0; i < size; i += n) store(weights + i, exp(load(weights + i, size - i)), size - i);
  for (long i = 1; i < size; ++i) weights[i] += weights[i - 1];
  const double limit = u * weights[size - 1];
  long low = 0, high = size - 1;  // the answer is in [low, high]
  while (low < high) {
    const long middle = (low + high) / 2;
    if (weights[middle] > limit)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

template <class T>
static void draw(const Drawing<T>& q, const Worker& w) {
  const LinearLayer<T> decoder(q.decoder, q.decoder_work, w.size, true);
  for (long i = 0; i < q.count; ++i) {
    for (long l = 0; l < q.layers; ++l) q.step(q.layer[l], q.work[l], w);
    decoder.row(w);
    if (!w.barrier()) return;
    if (w.rank == 0) {
      *q.token = q.drawn[i] = pick(q, q.temperature == 0 ? 0 : q.u[i]);
      if (q.embedding) q.layer[0].x = q.embedding + *q.token * q.layer[0].inputs;
      for (long l = 0; l < q.layers; ++l)  // the new state is the next step's old one
        for (int f = 0; f < q.states; ++f) copy(q.layer[l].states[f], q.layer[l].states[f] + q.padded, q.padded);
    }
    if (!w.go_on() || !w.barrier()) return;
  }
}
