// Trains some steps of step.cpp by threads that a sanitizer understands (it does not understand those of OpenMP): each
// takes its share of the images, as a thread of OpenMP would. Exits with 0 if the sanitizer finds nothing.
#include "../mnist_lightning/speed/step.cpp"

#include <thread>
#include <vector>

template <typename T, typename G> void steps(int n, int threads) {
  std::vector<uint8_t> images(n * SIDE * SIDE), winners(n * UNITS);
  std::vector<int64_t> rows(n);
  std::vector<T> w1(IC * TAPS), b1(IC), w2(OC * TAPS * IC), b2(OC);
  std::vector<G> out(n * UNITS);
  for (int i = 0; i < n; i++) rows[i] = i;
  for (size_t i = 0; i < images.size(); i++) images[i] = i % 784 < 300 ? 0 : uint8_t(i * 7);
  for (size_t i = 0; i < w1.size(); i++) w1[i] = T(int(i * 5 % 7) - 3) / 8;
  for (size_t i = 0; i < w2.size(); i++) w2[i] = T(int(i * 3 % 11) - 5) / 64;
  const T* layers[] = {w1.data(), b1.data(), w2.data(), b2.data()};
  const Weights<T> w(layers);
  const std::unique_ptr<Gradients<T>[]> shares(new Gradients<T>[threads]);
  for (const bool back : {false, true}) {
    std::vector<std::thread> running;
    for (int t = 0; t < threads; t++)
      running.emplace_back([&, t, begin = n * t / threads, end = n * (t + 1) / threads] {
        if (back)
          backward_share(shares[t], images.data(), winners.data(), begin, end, .3, w, out.data());
        else
          forward_share(images.data(), rows.data(), begin, end, 5, .3, w, out.data(), winners.data());
      });
    for (auto& thread : running) thread.join();
  }
}

int main() {
  for (const int n : {0, 1, 5, 8}) {
    steps<float, float>(n, 3);
    steps<float, Bfloat16>(n, 3);
    steps<double, double>(n, 3);
  }
}
