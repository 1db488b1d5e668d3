# frozen_string_literal: true

class Tree < SquareWorkflow
  squares root: [], left: [:root], right: [:root], l1: [:left], l2: [:left], r1: [:right], r2: [:right],
          join: %i[l1 l2 r1 r2]
end
