# frozen_string_literal: true

class Mixed < SquareWorkflow
  squares init: [], left: [:init], right: [:init], validate: %i[left right], transform: [:left], analyze: [:right],
          finalize: %i[validate transform analyze]
end
