// Filters on the nodes of a grid on CPUs: a linear function of the radial basis, then its SiLU or a
// factor of each node, and the gradient of its weights. In float64 whatever the type of the weights:
// rounding errors of neighbouring nodes would be those of forces, many times larger.
//
// Both products hold a tile of their result in registers and leave out what is zero in the basis. The
// gradient computes the linear function again: that costs less than to write and read it.
//
// Legend: T nodes, K radial functions, W columns. rbf (T, K), weight (W, K), table and steps (T, W).

#include "numbers.h"

#include <type_traits>

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

// A register of the processor; wider ones than it has would be kept in memory.
#if defined(__AVX512F__)
constexpr Index LANES = 8;
#elif defined(__AVX__)
constexpr Index LANES = 4;
#else
constexpr Index LANES = 2;
#endif
typedef double Lanes __attribute__((vector_size(LANES * 8)));
// A tile: nodes or functions by registers. Columns that are computed together.
constexpr Index ROWS = 6, VECTORS = 2, TILE = VECTORS * LANES, COLUMNS = 64 / TILE * TILE;

// Consecutive functions or nodes.
struct Band {
    Index first, last;
    void widen(Band more) { first = std::min(first, more.first), last = std::max(last, more.last); }
};

// The radial basis, with the functions of each node that are not zero.
struct Basis {
    const Index nodes, functions;
    const double* rbf;
    std::vector<Band> bands;

    explicit Basis(const Arguments& a) : nodes(a.nodes), functions(a.functions), rbf(a.rbf), bands(nodes) {
        for (Index t = 0; t < nodes; ++t) {
            const double* x = rbf + t * functions;
            Band of{0, functions};
            while (of.first < of.last && x[of.first] == 0) ++of.first;
            while (of.first < of.last && x[of.last - 1] == 0) --of.last;
            bands[t] = of;
        }
    }
};

// The radial basis in groups of ROWS functions, a group's nodes one after another.
struct Groups {
    const Index count;
    std::vector<double> rbf;    // (groups, T, ROWS), zero beyond the last function
    std::vector<Band> reach;    // nodes of each group where it is not zero

    explicit Groups(const Basis& basis)
        : count((basis.functions + ROWS - 1) / ROWS), rbf(count * basis.nodes * ROWS),
          reach(count, {basis.nodes, 0}) {
        for (Index t = 0; t < basis.nodes; ++t)
            for (Index k = basis.bands[t].first; k < basis.bands[t].last; ++k) {
                rbf[(k / ROWS * basis.nodes + t) * ROWS + k % ROWS] = basis.rbf[t * basis.functions + k];
                reach[k / ROWS].widen({t, t + 1});
            }
    }
};

// The linear function and what follows it. Weights are (tiles, K, TILE), biases (tiles, TILE), both zero
// beyond the last column.
template <class S> struct Function {
    const Arguments& a;
    const Basis& basis;
    std::vector<Lanes> weights, biases;

    Function(const Arguments& args, const Basis& of)
        : a(args), basis(of), weights((a.columns + TILE - 1) / TILE * a.functions * VECTORS),
          biases((a.columns + COLUMNS - 1) / COLUMNS * COLUMNS / LANES) {
        double* bias = reinterpret_cast<double*>(biases.data());
#pragma omp parallel for num_threads(a.threads)
        for (Index from = 0; from < a.columns; from += TILE) {
            double* out = reinterpret_cast<double*>(&weights[from / TILE * a.functions * VECTORS]);
            for (Index c = 0; c < std::min(TILE, a.columns - from); ++c) {
                const S* w = static_cast<const S*>(a.weight) + (from + c) * a.functions;
                for (Index k = 0; k < a.functions; ++k) out[k * TILE + c] = w[k];
                bias[from + c] = static_cast<const S*>(a.bias)[from + c];
            }
        }
    }

    // At ROWS nodes from t on, in the columns of a block, (ROWS, COLUMNS).
    void linear(Index t, Index from, Index count, double* to) const {
        const double* rows[ROWS];
        Band all{a.functions, 0};
        for (Index m = 0; m < ROWS; ++m) {
            const Index node = std::min(t + m, a.nodes - 1);
            rows[m] = basis.rbf + node * a.functions;
            all.widen(basis.bands[node]);
        }
        for (Index c = 0; c < count; c += TILE) {
            const Lanes* weight = &weights[(from + c) / TILE * a.functions * VECTORS];
            Lanes sum[ROWS][VECTORS];
            for (Index m = 0; m < ROWS; ++m) std::memcpy(sum[m], &biases[(from + c) / LANES], sizeof sum[m]);
            for (Index k = all.first; k < all.last; ++k)
#pragma GCC unroll 6
                for (Index m = 0; m < ROWS; ++m)
#pragma GCC unroll 2
                    for (Index v = 0; v < VECTORS; ++v) sum[m][v] += rows[m][k] * weight[k * VECTORS + v];
            for (Index m = 0; m < ROWS; ++m) std::memcpy(to + m * COLUMNS + c, sum[m], sizeof sum[m]);
        }
    }

    static INLINE double gate(double x) {
        return 1.0 / (1.0 + (std::is_same_v<S, float> ? short_exponential(-x) : exponential(-x)));
    }

    // Filters of a node, from the linear function to y.
    void filters(Index t, const double* x, double* y) const {
        if (a.factor)
            for (Index c = 0; c < COLUMNS; ++c) y[c] = x[c] * a.factor[t];
        else
#pragma GCC ivdep
            for (Index c = 0; c < COLUMNS; ++c) y[c] = x[c] * gate(x[c]);
    }

    // The gradient y of a node's filters to that of the linear function x.
    void pull(Index t, const double* x, double* y) const {
        if (a.factor)
            for (Index c = 0; c < COLUMNS; ++c) y[c] *= a.factor[t];
        else
#pragma GCC ivdep
            for (Index c = 0; c < COLUMNS; ++c) y[c] *= silu_slope(x[c], gate(x[c]));
    }
};

// ---- the table ----------------------------------------------------------------------------------

constexpr Index NODES = 8 * ROWS - 1;    // that one thread computes, all columns: their rows lie together

// These nodes, and the one before them for the first step.
template <class S> void table(const Arguments& a, const Function<S>& function, Index first, Index from) {
    const Index count = std::min(COLUMNS, a.columns - from), last = std::min(first + NODES, a.nodes);
    alignas(64) double x[ROWS * COLUMNS] = {}, values[2][COLUMNS];
    for (Index t = std::max(first - 1, Index(0)); t < last; t += ROWS) {
        function.linear(t, from, count, x);
        for (Index m = t; m < std::min(t + ROWS, last); ++m) {
            double *y = values[m % 2], *before = m ? values[(m + 1) % 2] : y;
            function.filters(m, x + (m - t) * COLUMNS, y);
            if (m < first) continue;
            S* out = static_cast<S*>(a.table) + m * a.columns + from;
            S* steps = static_cast<S*>(a.steps) + m * a.columns + from;
#pragma GCC ivdep
            for (Index c = 0; c < count; ++c) {
                out[c] = S(y[c]);
                steps[c] = S(y[c] - before[c]);
            }
        }
    }
}

// ---- the gradient of its weights ----------------------------------------------------------------

// Some columns of it.
template <class S> struct Columns {
    const Arguments& a;
    const Index from, count, tiles;

    Columns(const Arguments& args, Index column)
        : a(args), from(column), count(std::min(COLUMNS, args.columns - column)), tiles((count + TILE - 1) / TILE) {}

    void gradient(const Function<S>& function, const Groups& groups) const {
        std::vector<Lanes> pulled(tiles * a.nodes * VECTORS);
        pull(function, reinterpret_cast<double*>(pulled.data()));
        S* out = static_cast<S*>(a.grad_weight) + from * a.functions;
        for (Index tile = 0; tile < tiles; ++tile)
            for (Index group = 0; group < groups.count; ++group) {
                double sum[ROWS][TILE];
                const double* rbf = &groups.rbf[group * a.nodes * ROWS];
                sums(rbf, groups.reach[group], &pulled[tile * a.nodes * VECTORS], sum);
                for (Index c = 0; c < std::min(TILE, count - tile * TILE); ++c)
                    for (Index m = 0; m < std::min(ROWS, a.functions - group * ROWS); ++m)
                        out[(tile * TILE + c) * a.functions + group * ROWS + m] = S(sum[m][c]);
            }
    }

    // Gradient of the linear function, (tiles, T, TILE), zero beyond the last column; its sums, of the bias.
    void pull(const Function<S>& function, double* to) const {
        alignas(64) double x[ROWS * COLUMNS] = {}, y[COLUMNS] = {}, total[COLUMNS] = {};
        for (Index t = 0; t < a.nodes; ++t) {
            if (t % ROWS == 0 && !a.factor) function.linear(t, from, count, x);
            const S* grad = static_cast<const S*>(a.grad_table) + t * a.columns + from;
            for (Index c = 0; c < count; ++c) y[c] = grad[c];
            function.pull(t, x + t % ROWS * COLUMNS, y);
            for (Index c = 0; c < COLUMNS; ++c) total[c] += y[c];
            for (Index tile = 0; tile < tiles; ++tile)
                std::memcpy(to + (tile * a.nodes + t) * TILE, y + tile * TILE, TILE * sizeof *y);
        }
        for (Index c = 0; c < count; ++c) static_cast<S*>(a.grad_bias)[from + c] = S(total[c]);
    }

    // Sums over nodes of ROWS functions times TILE columns.
    static void sums(const double* rbf, Band reach, const Lanes* pulled, double (&to)[ROWS][TILE]) {
        Lanes sum[ROWS][VECTORS] = {};
        for (Index t = reach.first; t < reach.last; ++t)
#pragma GCC unroll 6
            for (Index m = 0; m < ROWS; ++m)
#pragma GCC unroll 2
                for (Index v = 0; v < VECTORS; ++v) sum[m][v] += rbf[t * ROWS + m] * pulled[t * VECTORS + v];
        std::memcpy(to, sum, sizeof to);
    }
};

template <class S> void of_kind(const Arguments& a) {
    const Basis basis(a);
    const Function<S> function(a, basis);
    if (a.kind == 0) {
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
        for (Index first = 0; first < a.nodes; first += NODES)
            for (Index from = 0; from < a.columns; from += COLUMNS) table(a, function, first, from);
        return;
    }
    const Groups groups(basis);
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
    for (Index from = 0; from < a.columns; from += COLUMNS) Columns<S>(a, from).gradient(function, groups);
}

// ---- places on the grid -------------------------------------------------------------------------

// What the caller passes; native.py has the same fields in the same order.
struct Places {
    Index kind;                    // 0, there is one
    Index pairs, nodes, points;    // points: nodes that a pair reads
    const double* node;            // where each pair lies on the grid, (P,)
    double* before;                // first node that it reads, (P,)
    Index *row, *kept, *count;     // that node's number among the kept ones, (P,); these, (T,), and how many

    void find() const {
        std::vector<Index> number(nodes);
        for (Index p = 0; p < pairs; ++p) {
            const double first = std::floor(node[p]) - 2;
            before[p] = std::min(std::max(first, 0.0), double(nodes - points));
            row[p] = Index(before[p]);
            number[row[p]] = points;    // nodes from here on
        }
        *count = 0;
        for (Index t = 0, reach = 0; t < nodes; ++t) {
            reach = std::max(reach - 1, number[t]);
            number[t] = *count;
            if (reach > 0) kept[(*count)++] = t;
        }
        for (Index p = 0; p < pairs; ++p) row[p] = number[row[p]];
    }
};

}  // namespace

extern "C" int filter_places(const Places* a) { return a->find(), 0; }

// Returns 0, or 1 for an unknown type.
extern "C" int filter_table(const Arguments* a) {
    if (a->type == 0) return of_kind<float>(*a), 0;
    if (a->type == 1) return of_kind<double>(*a), 0;
    return 1;
}
