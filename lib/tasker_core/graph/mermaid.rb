# frozen_string_literal: true

module TaskerCore
  class Graph
    # A graph as Mermaid source, for pages and documents that render it.
    #
    # @api private
    class Mermaid
      # Characters that could end a label or be read as markup.
      SPECIAL = /[^\p{Alnum}\p{Space}_.,:;()✔✘▶…•·-]/
      private_constant :SPECIAL

      # @param graph [Graph]
      def initialize(graph)
        @graph = graph
        @ids = graph.nodes.each_with_index.to_h { |node, number| [node.name, "step#{number}"] }
      end

      def to_s = ["flowchart LR", *nodes, *edges, *classes].join("\n") << "\n"

      private

      def nodes
        @graph.nodes.map do |node|
          "  #{@ids[node.name]}[\"#{label(node)}\"]#{":::#{node.state}" if node.state}"
        end
      end

      def label(node)
        return [node.name, node.note].compact.map { |text| escaped(text) }.join("<br/>") unless node.state

        "#{MARKS.fetch(node.state, '·')} #{escaped(node.name)}<br/>" \
          "#{escaped([node.state, node.note].compact.join(', '))}"
      end

      def edges = @graph.edges.map { |parent, child| "  #{@ids[parent]} --> #{@ids[child]}" }

      def classes
        @graph.nodes.map(&:state).uniq.compact.sort.map do |state|
          colours = Palette::STATES.fetch(state)
          "  classDef #{state} fill:#{colours.ground},stroke:#{colours.border},color:#{Palette::INK}"
        end
      end

      def escaped(text)
        visible = Support::VisibleText.line(text.scrub.gsub(/\s+/, " "))
        visible.truncate(200).gsub(SPECIAL) { |character| "##{character.ord};" }
      end
    end
  end
end
