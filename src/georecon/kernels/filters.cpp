// Filters on the nodes of a grid on CPUs: a linear function of the radial basis, then its SiLU or a
// factor of each node, and the gradient of its weights, in one pass over the nodes for each block of
// columns. In float64 whatever the type of the weights: rounding errors of neighbouring nodes would be
// those of forces, many times larger.
//
// Legend: T nodes, K radial functions, W columns. rbf (T, K), weight (W, K), table and steps (T, W).

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index nodes, functions, columns, threads;
    Index kind;    // 0 the table, 1 the gradient of its weights
    Index type;    // of all but rbf and factor: 0 float, 1 double
    const double *rbf, *factor;    // factor (T,): null for SiLU
    const void *weight, *bias, *grad_table;
    void *table, *steps, *grad_weight, *grad_bias;
};

typedef double Lanes __attribute__((vector_size(64)));    // eight numbers; narrower processors split it
constexpr Index LANES = 8, WIDE = 4, COLUMNS = WIDE * LANES, ROWS = 4;

// Functions of a node beside these are less than a rounding error of its largest.
struct Band {
    Index first, last;
};

Band band(const double* rbf, Index functions) {
    double most = 0;
    for (Index k = 0; k < functions; ++k) most = std::max(most, std::abs(rbf[k]));
    Band of{0, functions};
    const double least = 1e-17 * most;
    while (of.first < of.last && std::abs(rbf[of.first]) <= least) ++of.first;
    while (of.first < of.last && std::abs(rbf[of.last - 1]) <= least) --of.last;
    return of;
}

template <class S> struct Block {
    const Arguments& a;
    const std::vector<Band>& bands;
    const Index from, count;    // columns
    std::vector<Lanes> weight;
    Lanes bias[WIDE];
    alignas(64) double x[COLUMNS], y[COLUMNS];

    Block(const Arguments& args, const std::vector<Band>& of, Index column)
        : a(args), bands(of), from(column), count(std::min(COLUMNS, args.columns - column)),
          weight(args.functions * WIDE) {
        const S *w = static_cast<const S*>(a.weight) + from * a.functions, *b = static_cast<const S*>(a.bias) + from;
        double* to = reinterpret_cast<double*>(weight.data());
        for (Index c = 0; c < count; ++c)
            for (Index k = 0; k < a.functions; ++k) to[k * COLUMNS + c] = w[c * a.functions + k];
        for (Index c = 0; c < COLUMNS; ++c) bias[c / LANES][c % LANES] = c < count ? b[c] : S(0);
    }

    // The linear function at a node, to x.
    void linear(Index t) {
        Lanes sum[WIDE];
        for (Index v = 0; v < WIDE; ++v) sum[v] = bias[v];
        for (Index k = bands[t].first; k < bands[t].last; ++k) {
            const double r = a.rbf[t * a.functions + k];
#pragma GCC unroll 4
            for (Index v = 0; v < WIDE; ++v) sum[v] += r * weight[k * WIDE + v];
        }
        std::memcpy(x, sum, sizeof x);
    }

    void table() {
        S *out = static_cast<S*>(a.table) + from, *steps = static_cast<S*>(a.steps) + from;
        alignas(64) double before[COLUMNS];
        for (Index t = 0; t < a.nodes; ++t, out += a.columns, steps += a.columns) {
            linear(t);
            if (a.factor)
                for (Index c = 0; c < COLUMNS; ++c) y[c] = x[c] * a.factor[t];
            else
                for (Index c = 0; c < COLUMNS; ++c) y[c] = x[c] * sigmoid(x[c]);
            if (!t) std::memcpy(before, y, sizeof y);
            for (Index c = 0; c < count; ++c) {
                out[c] = S(y[c]);
                steps[c] = S(y[c] - before[c]);
            }
            std::memcpy(before, y, sizeof y);
        }
    }

    // Gradient of the linear function at a node, to y; zero beyond the last.
    void slope(Index t) {
        std::fill(y, y + COLUMNS, 0.0);
        if (t >= a.nodes) return;
        const S* grad = static_cast<const S*>(a.grad_table) + t * a.columns + from;
        for (Index c = 0; c < count; ++c) y[c] = grad[c];
        if (a.factor) {
            for (Index c = 0; c < COLUMNS; ++c) y[c] *= a.factor[t];
            return;
        }
        linear(t);
        for (Index c = 0; c < COLUMNS; ++c) y[c] *= silu_slope(x[c], sigmoid(x[c]));
    }

    // Several nodes at a time: the sums, one row for each radial function, are read and written less.
    void gradient() {
        std::vector<Lanes> sum(a.functions * WIDE);
        Lanes total[WIDE] = {};
        for (Index t = 0; t < a.nodes; t += ROWS) {
            Lanes g[ROWS][WIDE];
            Band all{a.functions, 0};
            for (Index r = 0; r < ROWS; ++r) {
                slope(t + r);
                std::memcpy(g[r], y, sizeof y);
                if (t + r >= a.nodes) continue;
                all = {std::min(all.first, bands[t + r].first), std::max(all.last, bands[t + r].last)};
            }
            const Index rows = std::min(ROWS, a.nodes - t);
            add(t, rows, all, g, sum.data());
            for (Index r = 0; r < rows; ++r)
                for (Index v = 0; v < WIDE; ++v) total[v] += g[r][v];
        }
        const double* sums = reinterpret_cast<const double*>(sum.data());
        S *out = static_cast<S*>(a.grad_weight) + from * a.functions, *bias_out = static_cast<S*>(a.grad_bias) + from;
        for (Index c = 0; c < count; ++c) {
            for (Index k = 0; k < a.functions; ++k) out[c * a.functions + k] = S(sums[k * COLUMNS + c]);
            bias_out[c] = S(total[c / LANES][c % LANES]);
        }
    }

    void add(Index t, Index rows, Band all, const Lanes (&g)[ROWS][WIDE], Lanes* sum) const {
        const Index K = a.functions;
        const double* r[ROWS];
        for (Index m = 0; m < ROWS; ++m) r[m] = a.rbf + std::min(t + m, t + rows - 1) * K;    // g is 0 beyond
        for (Index k = all.first; k < all.last; ++k)
#pragma GCC unroll 4
            for (Index v = 0; v < WIDE; ++v)
                sum[k * WIDE + v] += r[0][k] * g[0][v] + r[1][k] * g[1][v] + r[2][k] * g[2][v] + r[3][k] * g[3][v];
    }
};

template <class S> void all(const Arguments& a) {
    std::vector<Band> bands;
    for (Index t = 0; t < a.nodes; ++t) bands.push_back(band(a.rbf + t * a.functions, a.functions));
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
    for (Index column = 0; column < a.columns; column += COLUMNS) {
        Block<S> block(a, bands, column);
        a.kind == 0 ? block.table() : block.gradient();
    }
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int filter_table(const Arguments* a) {
    if (a->type == 0) return all<float>(*a), 0;
    if (a->type == 1) return all<double>(*a), 0;
    return 1;
}
