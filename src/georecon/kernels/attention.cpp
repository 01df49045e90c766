// Edge attention of the Equivariant Transformer on CPUs: forward, backward and the derivative of the
// backward, fused over one molecule at a time, so that its features stay in a core's cache and no
// array of one row an edge or a pair is ever written. The equations are `reference` of attention.py.
//
// Filters are read from a table by distance: the six nodes about a pair's place on the grid, weighted
// by Lagrange's polynomials. Without places, row p of the table is pair p's.
//
// Legend: F channels, D = F / heads, E directed edges, P undirected pairs. Row-major throughout.

#include "numbers.h"

#include <type_traits>

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index molecules, channels, heads, threads;
    Index kind;             // 0 forward, 1 backward, 2 derivative of the backward
    Index type;             // 0 float, 1 double
    Index vector_cutoff;    // the cutoff multiplies the vectors' values too
    Index parts, nodes;     // parts of the batch, one thread each; rows of the table
    Index embedding;        // no attention: the sum of filtered neighbours, with qkv (N, F) and table (., F)
    const Index *atoms, *pairs;            // first of each molecule, (B + 1,)
    const Index *first, *second, *ways;    // atoms of each pair; 1: edge to the first, 2: to the second, 3: both
    const Index *row;       // first of the rows of the table that a pair reads; null: it has its own
    const void* steps;      // from the row before to each row of the table: more exact than their difference
    const void *qkv, *vec, *table, *place, *unit, *cutoff;    // place: in rows from that first one
    const void *qkv_t, *vec_t, *table_t, *place_t, *unit_t, *cutoff_t;
    const void *grad_message, *grad_vector;
    void *message, *vector;
    void *grad_qkv, *grad_vec;
    void *grad_table;    // of each part, its sum in the first, or of each pair; null where it is not wanted
    void *grad_place, *grad_unit, *grad_cutoff;    // null where they are not wanted
};

// ---- places on the grid -------------------------------------------------------------------------

constexpr Index POINTS = 6, MIDDLE = 2;

// Lagrange's polynomials of the rows that a pair reads, and as many of their derivatives as are wanted; then
// the same as factors of the steps between rows, upwards and downwards from the middle one.
template <class S> struct Stencil {
    S weight[POINTS], slope[POINTS], bend[POINTS];
    S step_weight[POINTS], step_slope[POINTS], step_bend[POINTS];    // [m]: of the step from row m - 1 to m

    template <int derivatives> void at(S place) {
        const S over[POINTS] = {S(-1) / 120, S(1) / 24, S(-1) / 12, S(1) / 12, S(-1) / 24, S(1) / 120};
        S left[POINTS] = {1}, left1[POINTS] = {0}, left2[POINTS] = {0}, right = 1, right1 = 0, right2 = 0;
        for (Index m = 1; m < POINTS; ++m) {
            const S x = place + S(1 - m);
            left[m] = left[m - 1] * x;
            if constexpr (derivatives > 0) left1[m] = left1[m - 1] * x + left[m - 1];
            if constexpr (derivatives > 1) left2[m] = left2[m - 1] * x + 2 * left1[m - 1];
        }
        for (Index m = POINTS - 1; m >= 0; --m) {
            const S x = place - S(m);
            weight[m] = over[m] * left[m] * right;
            if constexpr (derivatives > 0) slope[m] = over[m] * (left1[m] * right + left[m] * right1);
            if constexpr (derivatives > 1) {
                bend[m] = over[m] * (left2[m] * right + 2 * left1[m] * right1 + left[m] * right2);
                right2 = right2 * x + 2 * right1;
            }
            if constexpr (derivatives > 0) right1 = right1 * x + right;
            right = right * x;
        }
        of_steps(weight, step_weight);
        if constexpr (derivatives > 0) of_steps(slope, step_slope);
        if constexpr (derivatives > 1) of_steps(bend, step_bend);
    }

    static void of_steps(const S (&rows)[POINTS], S (&steps)[POINTS]) {
        S above = 0, below = 0;
        for (Index m = POINTS - 1; m > MIDDLE; --m) steps[m] = above += rows[m];
        for (Index m = 1; m <= MIDDLE; ++m) steps[m] = below -= rows[m - 1];
    }
};

// ---- a part of the batch ------------------------------------------------------------------------

// DEPTH: channels of a head, CHANNELS: of all heads, if known, else 0.
template <class M, int DEPTH, int CHANNELS> struct Part {
    using T = typename M::Number;
    using S = typename M::Scalar;
    static constexpr bool dual = !std::is_same_v<T, S>;
    const Arguments& a;
    const Index width;    // numbers in a row of the table
    const bool forwards, backwards;
    const typename M::Array qkv, vec, place, unit, cutoff;
    const S *grad_message, *grad_vector;
    const Sum<S> grad_table;
    typename M::Scratch filter, slope, grad_filter;    // of the pair in hand, (width,): keys, three values
    typename M::Scratch score, gate, back;     // of the heads of the edge in hand
    Stencil<S> stencil;

    Part(const Arguments& args, Index part)
        : a(args), width(args.embedding ? args.channels : 4 * args.channels), forwards(args.kind != 1),
          backwards(args.kind != 0),
          qkv(M::array(a.qkv, a.qkv_t)), vec(M::array(a.vec, a.vec_t)),
          place(M::array(a.place, a.place_t)),
          unit(M::array(a.unit, a.unit_t)), cutoff(M::array(a.cutoff, a.cutoff_t)),
          grad_message(static_cast<const S*>(a.grad_message)),
          grad_vector(static_cast<const S*>(a.grad_vector)),
          grad_table{static_cast<S*>(a.grad_table) + (a.row ? part * a.nodes * width : 0)},
          filter(width), slope(width), grad_filter(width), score(args.heads), gate(args.heads), back(args.heads) {}

    // Sizes, constants where they can be: local ones in a function that loops over them.
    Index channels() const { return CHANNELS ? CHANNELS : a.channels; }
    Index channels_of_head() const { return DEPTH ? DEPTH : a.channels / a.heads; }
    Index number_of_heads() const { return CHANNELS ? CHANNELS / channels_of_head() : a.heads; }

    // Filters of a pair, once for both of its edges, and their slopes: by one place of the grid.
    void read(Index p) {
        if (!a.row) {
            const S *row = static_cast<const S*>(a.table) + p * width, *moves = static_cast<const S*>(a.table_t);
            for (Index f = 0; f < width; ++f) filter.set(f, T(row[f]));
            if constexpr (dual)
                for (Index f = 0; moves && f < width; ++f) filter.add(f, T(S(0), moves[p * width + f]));
            return;
        }
        const S at = value(place[p]);
        if (dual)
            stencil.template at<2>(at), read_rows<true>(p);
        else if (a.grad_place)
            stencil.template at<1>(at), read_rows<true>(p);
        else
            stencil.template at<0>(at), read_rows<false>(p);
    }

    template <bool slopes> void read_rows(Index p) {
        const S* middle = static_cast<const S*>(a.table) + (a.row[p] + MIDDLE) * width;
        const S* steps = static_cast<const S*>(a.steps) + a.row[p] * width;
        const T at = place[p];
#pragma GCC ivdep
        for (Index f = 0; f < width; ++f) {
            S v = middle[f], first = 0, second = 0;
            for (Index m = 1; m < POINTS; ++m) {
                const S x = steps[m * width + f];
                v += stencil.step_weight[m] * x;
                if constexpr (slopes) first += stencil.step_slope[m] * x;
                if constexpr (slopes && dual) second += stencil.step_bend[m] * x;
            }
            if constexpr (dual) {
                filter.set(f, T(v, first * at.t));
                slope.set(f, T(first, second * at.t));
            } else {
                filter.set(f, v);
                if constexpr (slopes) slope.set(f, first);
            }
        }
        if constexpr (dual) if (a.table_t) move_rows(p);
    }

    // What the movement of the table itself adds to the derivatives.
    void move_rows(Index p) {
        const S* rows = static_cast<const S*>(a.table_t) + a.row[p] * width;
        for (Index m = 0; m < POINTS; ++m)
            for (Index f = 0; f < width; ++f) {
                filter.add(f, T(S(0), stencil.weight[m] * rows[m * width + f]));
                slope.add(f, T(S(0), stencil.slope[m] * rows[m * width + f]));
            }
    }

    // The gradient of a pair's filters goes to the table and to its place, as far as they are wanted.
    void write(Index p) {
        if (a.row && a.grad_place) {
            T along{};
            for (Index f = 0; f < width; ++f) along += slope[f] * grad_filter[f];
            Sum<S>{static_cast<S*>(a.grad_place)}.add(p, along);
        }
        if (!a.grad_table) return;
        for (Index m = 0; m < (a.row ? POINTS : 1); ++m) {
            const auto out = grad_table.at((a.row ? a.row[p] + m : p) * width);
            T weight = S(1);
            if (a.row) weight = stencil.weight[m];
            if constexpr (dual) if (a.row) weight.t = stencil.slope[m] * place[p].t;
#pragma GCC ivdep
            for (Index f = 0; f < width; ++f) out.add(f, weight * grad_filter[f]);
        }
    }

    // Attention weights of an edge: SiLU(score) = score · gate.
    void attend(Index i, Index j) {
        const Index F = channels(), depth = channels_of_head(), heads = number_of_heads();
        const auto q = qkv.at(i * 5 * F), k = qkv.at(j * 5 * F + F);
        for (Index h = 0; h < heads; ++h) {
            T total{};
#pragma GCC unroll 1
            for (Index d = 0, f = h * depth; d < depth; ++d, ++f) total += q[f] * k[f] * filter[f];
            score.set(h, total);
        }
#pragma GCC ivdep
        for (Index h = 0; h < heads; ++h) gate.set(h, sigmoid(score[h]));
    }

    void forward(Index i, Index j, Index p) {
        const S sign = j > i ? S(1) : S(-1);
        const Index F = channels(), depth = channels_of_head(), heads = number_of_heads();
        const T c = cutoff[p];
        const auto v0 = qkv.at(j * 5 * F + 2 * F);
        const Sum<S> message{static_cast<S*>(a.message) + i * F}, vector{static_cast<S*>(a.vector) + i * 3 * F};
        attend(i, j);
        for (Index h = 0; h < heads; ++h) {
            const T weight = score[h] * gate[h] * c;
#pragma GCC ivdep
#pragma GCC unroll 1
            for (Index d = 0, f = h * depth; d < depth; ++d, ++f) message.add(f, weight * v0[f] * filter[F + f]);
        }
        const auto v1 = v0.at(F), v2 = v0.at(2 * F);
        T u[3];
        for (Index x = 0; x < 3; ++x) u[x] = a.vector_cutoff ? sign * unit[3 * p + x] * c : sign * unit[3 * p + x];
        if (!a.vec) {
#pragma GCC ivdep
            for (Index f = 0; f < F; ++f) {
                const T gate2 = v2[f] * filter[3 * F + f];
                for (Index x = 0; x < 3; ++x) vector.add(x * F + f, gate2 * u[x]);
            }
            return;
        }
        const auto neighbor = vec.at(j * 3 * F);
        const bool scaled = a.vector_cutoff;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const T gate2 = v2[f] * filter[3 * F + f];
            T gate1 = v1[f] * filter[2 * F + f];
            if (scaled) gate1 = gate1 * c;
            for (Index x = 0; x < 3; ++x)
                vector.add(x * F + f, gate2 * u[x] + gate1 * neighbor[x * F + f]);
        }
    }

    // Attention weights, which a forward pass has left, and scalar values; returns the gradient of the cutoff.
    T backward_scalar(Index i, Index j, T c) {
        const Index F = channels(), depth = channels_of_head(), heads = number_of_heads();
        const auto q = qkv.at(i * 5 * F), k = qkv.at(j * 5 * F + F), v0 = k.at(F);
        const Sum<S> out{static_cast<S*>(a.grad_qkv)};
        const Sum<S> grad_q = out.at(i * 5 * F), grad_k = out.at(j * 5 * F + F), grad_v = grad_k.at(F);
        const S* grad = grad_message + i * F;
        if (!forwards) attend(i, j);
        for (Index h = 0; h < heads; ++h) {
            const T weight = score[h] * gate[h] * c;
            T total{};
#pragma GCC ivdep
#pragma GCC unroll 1
            for (Index d = 0, f = h * depth; d < depth; ++d, ++f) {
                const T pulled = grad[f] * v0[f], x = filter[F + f];
                total += pulled * x;
                grad_v.add(f, grad[f] * (weight * x));
                grad_filter.add(F + f, weight * pulled);
            }
            back.set(h, total);
        }
        T grad_c{};
#pragma GCC ivdep
        for (Index h = 0; h < heads; ++h) {
            grad_c += back[h] * (score[h] * gate[h]);
            back.set(h, back[h] * c * silu_slope(score[h], gate[h]));
        }
        for (Index h = 0; h < heads; ++h) {
            const T slope = back[h];
#pragma GCC ivdep
#pragma GCC unroll 1
            for (Index d = 0, f = h * depth; d < depth; ++d, ++f) {
                const T x = slope * filter[f], qf = q[f], kf = k[f];
                grad_q.add(f, kf * x);
                grad_k.add(f, qf * x);
                grad_filter.add(f, slope * qf * kf);
            }
        }
        return grad_c;
    }

    // Vector values: gradient of unit goes to `grad_u`; returns the gradient of the cutoff.
    template <bool geometry, bool vectors>
    T backward_vector(Index i, Index j, T c, const T (&u)[3], T (&grad_u)[3]) {
        const Index F = channels();
        const auto v1 = qkv.at(j * 5 * F + 3 * F), v2 = v1.at(F), neighbor = vec.at(vectors ? j * 3 * F : 0);
        const Sum<S> grad_v1{static_cast<S*>(a.grad_qkv) + j * 5 * F + 3 * F}, grad_v2 = grad_v1.at(F);
        const Sum<S> grad_neighbor{static_cast<S*>(a.grad_vec) + (vectors ? j * 3 * F : 0)};
        const S* grad = grad_vector + i * 3 * F;
        T grad_c{}, g0{}, g1{}, g2{};
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const S gx = grad[f], gy = grad[F + f], gz = grad[2 * F + f];
            const T a2 = v2[f], d2 = filter[3 * F + f];
            const T along = gx * u[0] + gy * u[1] + gz * u[2], scaled = along * c;
            grad_v2.add(f, scaled * d2);
            grad_filter.add(3 * F + f, scaled * a2);
            if constexpr (geometry) {
                const T gate2 = a2 * d2;
                g0 += gx * gate2; g1 += gy * gate2; g2 += gz * gate2;
                grad_c += along * gate2;
            }
            if constexpr (vectors) {
                const T a1 = v1[f], d1 = filter[2 * F + f];
                const T dot = gx * neighbor[f] + gy * neighbor[F + f] + gz * neighbor[2 * F + f], back = dot * c;
                grad_v1.add(f, back * d1);
                grad_filter.add(2 * F + f, back * a1);
                const T gate1 = a1 * d1, pushed = gate1 * c;
                grad_neighbor.add(f, gx * pushed);
                grad_neighbor.add(F + f, gy * pushed);
                grad_neighbor.add(2 * F + f, gz * pushed);
                if constexpr (geometry) grad_c += dot * gate1;
            }
        }
        grad_u[0] = g0 * c; grad_u[1] = g1 * c; grad_u[2] = g2 * c;
        return grad_c;
    }

    template <bool geometry> void backward(Index i, Index j, Index p) {
        const S sign = j > i ? S(1) : S(-1);
        const T c = cutoff[p];
        T u[3], grad_u[3];
        for (Index x = 0; x < 3; ++x) u[x] = sign * unit[3 * p + x];
        T grad_c = backward_scalar(i, j, c);
        const T scale = a.vector_cutoff ? c : T(S(1));
        const T more = a.vec ? backward_vector<geometry, true>(i, j, scale, u, grad_u)
                             : backward_vector<geometry, false>(i, j, scale, u, grad_u);
        if constexpr (geometry) {
            if (a.vector_cutoff) grad_c += more;
            const Sum<S> out_u{static_cast<S*>(a.grad_unit) + 3 * p}, out_c{static_cast<S*>(a.grad_cutoff) + p};
            for (Index x = 0; x < 3; ++x) out_u.add(x, sign * grad_u[x]);
            out_c.add(0, grad_c);
        }
    }

    void embed(Index i, Index j) {
        const Index F = channels();
        const auto x = qkv.at(j * F);
        if (forwards) {
            const Sum<S> message{static_cast<S*>(a.message) + i * F};
#pragma GCC ivdep
            for (Index f = 0; f < F; ++f) message.add(f, x[f] * filter[f]);
        }
        if (!backwards) return;
        const Sum<S> grad_x{static_cast<S*>(a.grad_qkv) + j * F};
        const S* grad = grad_message + i * F;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            grad_x.add(f, grad[f] * filter[f]);
            grad_filter.add(f, grad[f] * x[f]);
        }
    }

    // From atom j to atom i.
    void edge(Index i, Index j, Index p) {
        if (a.embedding) return embed(i, j);
        if (forwards) forward(i, j, p);
        if (backwards) a.grad_unit ? backward<true>(i, j, p) : backward<false>(i, j, p);
    }

    // The first pair of a molecule is that of its self loops, which no embedding has.
    void molecule(Index b) {
        const Index first = a.atoms[b], last = a.atoms[b + 1], loops = a.pairs[b];
        clear(b);
        for (Index p = loops + a.embedding; p < a.pairs[b + 1]; ++p) {
            read(p);
            if (backwards) grad_filter.clear();
            if (p == loops)
                for (Index i = first; i < last; ++i) edge(i, i, p);
            else {
                if (a.ways[p] & 1) edge(a.first[p], a.second[p], p);
                if (a.ways[p] & 2) edge(a.second[p], a.first[p], p);
            }
            if (backwards) write(p);
        }
    }

    void clear(Index b) {
        const Index F = channels(), low = a.pairs[b], high = a.pairs[b + 1];
        const Index first = a.atoms[b], last = a.atoms[b + 1];
        if (forwards) {
            zero(a.message, first, last, F);
            zero(a.vector, first, last, 3 * F);
        }
        if (backwards) {
            zero(a.grad_qkv, first, last, a.embedding ? F : 5 * F);
            zero(a.grad_vec, first, last, 3 * F);
            zero(a.grad_unit, low, high, 3);
            zero(a.grad_cutoff, low, high, 1);
            zero(a.grad_place, low, high, 1);
            if (!a.row) zero(a.grad_table, low, high, width);
        }
    }

    static void zero(void* out, Index from, Index to, Index width) {
        if (out) std::fill(static_cast<S*>(out) + from * width, static_cast<S*>(out) + to * width, S(0));
    }
};

template <class M, int DEPTH, int CHANNELS> void all(const Arguments& a) {
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
    for (Index part = 0; part < a.parts; ++part) {
        Part<M, DEPTH, CHANNELS> one(a, part);
        if (one.backwards && a.row) one.zero(a.grad_table, part * a.nodes, (part + 1) * a.nodes, one.width);
        for (Index b = part * a.molecules / a.parts; b < (part + 1) * a.molecules / a.parts; ++b) one.molecule(b);
    }
    const Index width = a.embedding ? a.channels : 4 * a.channels;
    if (a.row) join<typename M::Scalar>(a.grad_table, a.parts, a.nodes * width, a.threads);
}

template <class S, int DEPTH, int CHANNELS = 0> void of_kind(const Arguments& a) {
    a.kind == 2 ? all<Derived<S>, DEPTH, 0>(a) : all<Plain<S>, DEPTH, CHANNELS>(a);
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int edge_attention(const Arguments* a) {
    if (a->type == 1) return of_kind<double, 0>(*a), 0;
    if (a->type != 0) return 1;
    if (a->channels == 32 && a->heads == 4) return of_kind<float, 8, 32>(*a), 0;    // the laptop edition's
    switch (a->channels / a->heads) {
        case 8: return of_kind<float, 8>(*a), 0;
        case 16: return of_kind<float, 16>(*a), 0;
        case 32: return of_kind<float, 32>(*a), 0;
        default: return of_kind<float, 0>(*a), 0;
    }
}
