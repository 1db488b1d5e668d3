# frozen_string_literal: true

# Builds workflows of squares from steps and parents.
class SquareWorkflow < TaskerCore::Workflow
  def self.squares(graph)
    input required: { n: :integer }
    graph.each { |name, parents| step name, depends_on: parents, handler: Square, config: { parents: parents } }
  end
end
