// A training step on a CPU, where it pays to write it by hand: conv1, ReLU, conv2, max pooling, ReLU and dropout of an
// image in one go, all of it in the cache, and Adadelta. docs/speed.md tells the idea. What is zero is not computed:
// - A unit that did not win its pooling cell, or was cut by ReLU or dropout, has no gradient. The backward pass sums
//   over the others alone, about one in ten outputs of conv2.
// - A cell that sees only black pixels has the same output in every image. The forward pass computes it once, and the
//   backward pass sums the gradients of all such cells and treats them as one cell of a black image.
//
// Compiled for one network: IC and OC are the channels of conv1 and conv2, K the side of their kernels and P that of a
// pooling cell. BYTES is the size of a vector; IC and OC are multiples of the floats in one.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {
constexpr int SIDE = 28, H1 = SIDE - K + 1, H2 = H1 - K + 1, HP = H2 / P;  // sides of image, conv1, conv2 and pooling
constexpr int CELLS = HP * HP, UNITS = CELLS * OC, PIXELS = P * P, TAPS = K * K;
constexpr int FIELD = P + 2 * (K - 1), PATCH = P + K - 1;  // sides of what a cell sees of the image, and of conv1
constexpr uint8_t NOBODY = PIXELS, BLACK[std::max(SIDE * SIDE, OC)] = {};  // "winner" of a unit without a gradient

struct Bfloat16 {
  uint16_t bits;
  operator float() const { return __builtin_bit_cast(float, uint32_t(bits) << 16); }
};

// GCC's vectors. They are aligned as their numbers are.
template <typename T> constexpr int LANES = BYTES / sizeof(T);
template <typename T> struct Vectors {
  typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> lane;
  typedef T vec __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
  typedef lane mask __attribute__((vector_size(BYTES), aligned(alignof(T)), may_alias));
};
template <typename T> using Vec = typename Vectors<T>::vec;
template <typename T> using Mask = typename Vectors<T>::mask;
// The sums of so many vectors of channels, for all pixels of so many cells, fill the registers.
template <typename T> constexpr int NV = OC / LANES<T> % 2 ? 1 : 2;
template <typename T> constexpr int NC = std::max(1, (BYTES == 64 ? 24 : 12) / (PIXELS * NV<T>));

template <typename T> Vec<T> load(const T* from) { return *(const Vec<T>*)from; }
void store(float* to, Vec<float> v) { *(Vec<float>*)to = v; }
void store(double* to, Vec<double> v) { *(Vec<double>*)to = v; }
template <typename M> void store(uint8_t* to, M v) {
  typedef uint8_t bytes __attribute__((vector_size(sizeof(M) / sizeof v[0]), aligned(1), may_alias));
  *(bytes*)to = __builtin_convertvector(v, bytes);
}
void store(Bfloat16* to, Vec<float> v) {
  typedef uint16_t halves __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
  const Mask<float> bits = (Mask<float>)v, rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  *(halves*)to = __builtin_convertvector(v == v ? rounded : Mask<float>{} + 0x7fc0, halves);
}

// The weights in the order in which the loops read them.
template <typename T> struct Weights {
  static constexpr int N = LANES<T>, WIDE = NV<T> * N;
  alignas(64) T w1[TAPS][IC], b1[IC], b2[OC], forward[OC / WIDE][IC / N][TAPS][N][WIDE], backward[IC / N][OC][TAPS][N];

  Weights(const T* const* layers) {  // [IC, TAPS], [IC], [OC, TAPS, IC], [OC]
    for (int i = 0; i < IC * TAPS; i++) w1[i % TAPS][i / TAPS] = layers[0][i];
    std::copy_n(layers[1], IC, b1);
    std::copy_n(layers[3], OC, b2);
    for (int at = 0; at < OC * TAPS * IC; at++) {
      const int o = at / (TAPS * IC), k = at / IC % TAPS, i = at % IC;
      forward[o / WIDE][i / N][k][i % N][o % WIDE] = backward[i / N][o][k][i % N] = layers[2][at];
    }
  }
};

// An image, the cells that see anything in it, and what conv1 and ReLU make of it, one vector of channels after another.
template <typename T> struct Image {
  static constexpr int N = LANES<T>;
  alignas(64) T pixels[SIDE * SIDE], maps[IC / N][H1 * H1][N];
  int seeing[CELLS], count;
  bool sees[CELLS];

  void read(const uint8_t* image, const Weights<T>& w) {
    uint32_t lit[SIDE] = {};
    for (int i = 0; i < SIDE * SIDE; i++) {
      pixels[i] = T(image[i]) / 255;
      lit[i / SIDE] |= uint32_t(image[i] != 0) << i % SIDE;
    }
    count = 0;
    for (int i = 0; i < CELLS; i++) {
      uint32_t any = 0;
      for (int y = 0; y < FIELD; y++) any |= lit[i / HP * P + y];
      sees[i] = any >> (i % HP * P) & ((1ull << FIELD) - 1);
      if (sees[i]) seeing[count++] = i;
    }
    for (int h = 0; h < IC / N; h++) {
      Vec<T> taps[TAPS];
      for (int k = 0; k < TAPS; k++) taps[k] = load(w.w1[k] + h * N);
      for (int p = 0; p < H1 * H1; p++) {
        const T* first = pixels + p / H1 * SIDE + p % H1;
        Vec<T> sum = load(w.b1 + h * N);
#pragma GCC unroll 25
        for (int k = 0; k < TAPS; k++) sum += taps[k] * first[k / K * SIDE + k % K];
        store(maps[h][p], sum < 0 ? Vec<T>{} : sum);  // a NaN stays one
      }
    }
  }
};

// Place of a cell's first pixel, and of another from there, on the maps of conv1.
constexpr int corner(int cell) { return cell / HP * P * H1 + cell % HP * P; }
constexpr int pixel(int q) { return q / P * H1 + q % P; }

// Outputs of conv2 for some cells: the best pixel of each, and which it was, the first of equal ones.
template <typename T> struct Pooled {
  alignas(64) T best[NC<T>][OC];
  alignas(64) typename Vectors<T>::lane winner[NC<T>][OC];

  void convolve(const Image<T>& image, const int* cells, const Weights<T>& w) {
    constexpr int N = LANES<T>, SUMS = NC<T> * PIXELS;
    const T* maps[NC<T>];
    for (int c = 0; c < NC<T>; c++) maps[c] = image.maps[0][corner(cells[c])];
    for (int o = 0; o < OC; o += NV<T> * N) {
      Vec<T> sum[SUMS][NV<T>];
      for (int p = 0; p < SUMS * NV<T>; p++) sum[p / NV<T>][p % NV<T>] = load(w.b2 + o + p % NV<T> * N);
      for (int h = 0; h < IC / N; h++)
        for (int k = 0; k < TAPS; k++) {
          const auto weights = w.forward[o / (NV<T> * N)][h][k];
          const int at = (h * H1 * H1 + k / K * H1 + k % K) * N;
          for (int i = 0; i < N; i++) {
#pragma GCC unroll 32
            for (int p = 0; p < SUMS; p++) {
              const T x = maps[p / PIXELS][at + i + pixel(p % PIXELS) * N];
              for (int v = 0; v < NV<T>; v++) sum[p][v] += load(weights[i] + v * N) * x;
            }
          }
        }
#pragma GCC unroll 32
      for (int c = 0; c < NC<T> * NV<T>; c++) {
        const int v = c % NV<T>, first = c / NV<T> * PIXELS;
        Vec<T> high = sum[first][v];
        Mask<T> won = {};
        for (int q = 1; q < PIXELS; q++) {
          const Vec<T> other = sum[first + q][v];
          const Mask<T> better = (other > high) | (other != other);
          high = better ? other : high;
          won = better ? Mask<T>{} + q : won;
        }
        store(best[c / NV<T>] + o + v * N, high);
        *(Mask<T>*)(winner[c / NV<T>] + o + v * N) = won;
      }
    }
  }
};

// Which units of an image are kept: the bits of mnist_lightning/dropout.py.
template <typename T> struct Dropout {
  uint64_t words[UNITS / 2];
  alignas(64) typename Vectors<T>::lane keep[UNITS];

  void draw(uint64_t row, uint64_t key, double rate) {
    const bool exact = rate * 256 == std::floor(rate * 256);
    const int n = exact ? UNITS / 8 : UNITS / 2;
    for (int i = 0; i < n; i++) {  // SplitMix64
      uint64_t z = key + 0x9E3779B97F4A7C15 * (row * n + i);
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
      words[i] = z ^ (z >> 31);
    }
    if (exact)
      for (int u = 0; u < UNITS; u++) keep[u] = -(((const uint8_t*)words)[u] >= int(rate * 256));
    else
      for (int u = 0; u < UNITS; u++)
        keep[u] = -(int32_t(words[u / 2] >> u % 2 * 32) >= std::llrint(rate * 4294967296) - 2147483648);
  }
};

template <typename T, typename G>
void forward_share(const uint8_t* images, const int64_t* rows, int64_t begin, int64_t end, uint64_t key, double rate,
                   const Weights<T>& w, G* out, uint8_t* winners) {
  const auto image = std::make_unique<Image<T>>();
  const auto dropout = std::make_unique<Dropout<T>>();
  std::fill_n(dropout->keep, UNITS, -1);
  const T scale = T(1 / (1 - rate));
  Pooled<T> pooled, black;
  int cells[NC<T>] = {};
  image->read(BLACK, w);
  black.convolve(*image, cells, w);
  for (int64_t n = begin; n < end; n++) {
    const auto finish = [&](int cell, const Pooled<T>& from, int place) {
      for (int c = 0; c < OC; c += LANES<T>) {
        const int u = cell * OC + c;
        const Vec<T> high = load(from.best[place] + c);
        const Mask<T> alive = *(const Mask<T>*)(dropout->keep + u) & ~(high <= 0);
        store(out + n * UNITS + u, alive ? high * scale : Vec<T>{});
        const Mask<T> won = alive ? *(const Mask<T>*)(from.winner[place] + c) : Mask<T>{} + NOBODY;
        store(winners + n * UNITS + u, won);
      }
    };
    image->read(images + n * SIDE * SIDE, w);
    if (rate > 0) dropout->draw(rows[n], key, rate);
    for (int i = 0; i < CELLS; i++)
      if (!image->sees[i]) finish(i, black, 0);
    for (int i = 0; i < image->count; i += NC<T>) {
      for (int c = 0; c < NC<T>; c++) cells[c] = image->seeing[std::min(i + c, image->count - 1)];
      pooled.convolve(*image, cells, w);
      for (int c = 0; c < NC<T>; c++) finish(cells[c], pooled, c);
    }
  }
}

// A thread's part of the gradients, those of the black cells among them, and what it keeps of an image to compute them.
template <typename T> struct Gradients {
  static constexpr int N = LANES<T>;
  alignas(64) T w2[IC / N][OC][TAPS][N], w1[TAPS][IC], b1[IC], b2[OC], black[OC];
  Image<T> image;
  alignas(64) T maps[IC / N][H1 * H1][N];  // gradient of conv1's output
  alignas(64) T values[CELLS][OC], value[OC][CELLS];  // gradients of conv2's winners: by cell, and by channel
  int won[CELLS][PIXELS], wins[OC], at[OC][CELLS];  // how many a pixel and a channel won, and where the channel did
  uint16_t winners[CELLS][PIXELS][OC];  // the channels that a pixel won

  // Takes down the winners of the cell that is number i of those that see anything.
  template <typename G> void list(int i, const G* gradient, const uint8_t* winner, T scale) {
    for (int c = 0; c < OC; c++) values[i][c] = T(gradient[c]) * scale;
    std::fill_n(won[i], PIXELS, 0);
    for (int block = 0; block < OC; block += 8) {
      const uint64_t low = 0x7f7f7f7f7f7f7f7f;
      uint64_t other;
      std::memcpy(&other, winner + block, 8);
      other ^= 0x0101010101010101 * NOBODY;
      // The high bit of each byte that is not zero, so of each unit with a winner.
      for (uint64_t alive = (((other & low) + low) | other) & ~low; alive; alive &= alive - 1) {
        const int c = block + __builtin_ctzll(alive) / 8, q = winner[c], n = wins[c]++;
        winners[i][q][won[i][q]++] = c;
        at[c][n] = corner(image.seeing[i]) + pixel(q);
        value[c][n] = values[i][c];
        b2[c] += values[i][c];
      }
    }
  }

  // What the winners of a cell send back to conv1's maps, from one pixel after the other.
  template <int... Q>
  void send(Vec<T>* patch, int h, int i, const Weights<T>& w, std::integer_sequence<int, Q...>) {
    const auto from = [&](auto q) __attribute__((always_inline)) {
      for (int j = 0; j < won[i][q]; j++) {
        const int c = winners[i][q][j];
#pragma GCC unroll 25
        for (int k = 0; k < TAPS; k++)
          patch[(q / P + k / K) * PATCH + q % P + k % K] += values[i][c] * load(w.backward[h][c][k]);
      }
    };
    (from(std::integral_constant<int, Q>()), ...);
  }

  // Adds the gradients of the image whose winners are taken down.
  void add(const Weights<T>& w) {
    for (int h = 0; h < IC / N; h++) {  // outside, so that the weights of a turn stay in the first cache
      std::memset(maps[h], 0, sizeof maps[h]);
      for (int i = 0; i < image.count; i++) {
        Vec<T> patch[PATCH * PATCH] = {};
        send(patch, h, i, w, std::make_integer_sequence<int, PIXELS>());
        for (int p = 0; p < PATCH * PATCH; p++) {
          T* to = maps[h][corner(image.seeing[i]) + p / PATCH * H1 + p % PATCH];
          store(to, load(to) + patch[p]);
        }
      }
      Vec<T> sum[TAPS], bias = load(b1 + h * N);
      for (int c = 0; c < OC; c++) {
        for (int k = 0; k < TAPS; k++) sum[k] = load(w2[h][c][k]);
        for (int j = 0; j < wins[c]; j++) {
#pragma GCC unroll 25
          for (int k = 0; k < TAPS; k++) sum[k] += value[c][j] * load(image.maps[h][at[c][j] + k / K * H1 + k % K]);
        }
        for (int k = 0; k < TAPS; k++) store(w2[h][c][k], sum[k]);
      }
      for (int k = 0; k < TAPS; k++) sum[k] = load(w1[k] + h * N);
      for (int p = 0; p < H1 * H1; p++) {
        const Vec<T> d = load(image.maps[h][p]) <= 0 ? Vec<T>{} : load(maps[h][p]);
        bias += d;
#pragma GCC unroll 25
        for (int k = 0; k < TAPS; k++) sum[k] += d * image.pixels[(p / H1 + k / K) * SIDE + p % H1 + k % K];
      }
      for (int k = 0; k < TAPS; k++) store(w1[k] + h * N, sum[k]);
      store(b1 + h * N, bias);
    }
    std::fill_n(wins, OC, 0);
  }
};

template <typename T, typename G>
void backward_share(Gradients<T>& s, const uint8_t* images, const uint8_t* winners, int64_t begin, int64_t end,
                    double rate, const Weights<T>& w, const G* gradient) {
  const T scale = T(1 / (1 - rate));
  std::memset((void*)&s, 0, (char*)&s.image - (char*)&s);
  std::fill_n(s.wins, OC, 0);
  for (int64_t n = begin; n < end; n++) {
    s.image.read(images + n * SIDE * SIDE, w);
    for (int i = 0, seeing = 0; i < CELLS; i++) {
      const auto from = gradient + n * UNITS + i * OC;
      const auto winner = winners + n * UNITS + i * OC;
      if (s.image.sees[i])
        s.list(seeing++, from, winner, scale);
      else
        for (int c = 0; c < OC; c++) s.black[c] += winner[c] == NOBODY ? 0 : T(from[c]) * scale;
    }
    s.add(w);
  }
  s.image.read(BLACK, w);
  s.image.count = 1, s.image.seeing[0] = 0;
  s.list(0, s.black, BLACK, T(1));  // the first of equal pixels won
  s.add(w);
}

template <typename T, typename G>
void forward(const uint8_t* images, const int64_t* rows, int64_t n, int64_t key, double rate, const T* const* layers,
             G* out, uint8_t* winners, int64_t threads) {
  const auto w = std::make_unique<Weights<T>>(layers);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t t = 0; t < threads; t++)
    forward_share(images, rows, n * t / threads, n * (t + 1) / threads, key, rate, *w, out, winners);
}

template <typename T, typename G>
void backward(const uint8_t* images, const uint8_t* winners, int64_t n, double rate, const T* const* layers,
              const G* gradient, T* const* sums, int64_t threads) {
  const auto w = std::make_unique<Weights<T>>(layers);
  const std::unique_ptr<Gradients<T>[]> shares(new Gradients<T>[threads]);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t t = 0; t < threads; t++)
    backward_share(shares[t], images, winners, n * t / threads, n * (t + 1) / threads, rate, *w, gradient);
  for (int64_t t = 0; t < threads; t++) {  // in this order, so that the sums have the same bits again
    const Gradients<T>& s = shares[t];
    for (int i = 0; i < IC * TAPS; i++) sums[0][i] += s.w1[i % TAPS][i / TAPS];
    for (int i = 0; i < IC; i++) sums[1][i] += s.b1[i];
    for (int i = 0; i < OC * TAPS * IC; i++) sums[2][i] += s.w2[i % IC / s.N][i / (TAPS * IC)][i / IC % TAPS][i % s.N];
    for (int i = 0; i < OC; i++) sums[3][i] += s.b2[i];
  }
}

template <typename T>
void adadelta(T* __restrict p, const T* __restrict gradient, T* __restrict squares, T* __restrict deltas, int64_t n,
              double rate, double rho, double eps, int64_t threads) {
#pragma omp parallel for simd num_threads(threads) if (n > 16384)
  for (int64_t i = 0; i < n; i++) {
    squares[i] = squares[i] * T(rho) + gradient[i] * gradient[i] * T(1 - rho);
    const T delta = std::sqrt(deltas[i] + T(eps)) / std::sqrt(squares[i] + T(eps)) * gradient[i];
    deltas[i] = deltas[i] * T(rho) + delta * delta * T(1 - rho);
    p[i] -= T(rate) * delta;
  }
}
}  // namespace

// The functions, by the type of the weights; `mixed` has single precision before bfloat16.
#define TABLE(T, G) {(void*)forward<T, G>, (void*)backward<T, G>, (void*)adadelta<T>}
extern "C" void *const float32[] = TABLE(float, float), *const float64[] = TABLE(double, double);
extern "C" void* const mixed[] = TABLE(float, Bfloat16);
