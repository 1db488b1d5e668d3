# frozen_string_literal: true

class Diamond < SquareWorkflow
  squares a: [], b: [:a], c: [:a], d: %i[b c]
end
