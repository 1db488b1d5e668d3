# frozen_string_literal: true

module TaskerCore
  module Workflows
    # The YAML text of a workflow, read with suspicion: a key that stands twice would lose one of its values, a few
    # aliases of aliases write out to more than any memory holds, and tags would make objects of Ruby.
    #
    # @api private
    class YamlReader
      # Nodes with every alias written out; fewer than this, or than the text has bytes, are fine.
      MOST_NODES = 1_000_000
      # More than any definition that compiles has; the parser's own work grows with the square of the depth.
      DEEPEST = 200
      private_constant :MOST_NODES, :DEEPEST

      # Builds the tree and stops at the depth.
      class Tree < Psych::TreeBuilder
        class TooDeep < StandardError; end

        def start_sequence(*) = deeper { super }

        def start_mapping(*) = deeper { super }

        def end_sequence = super.tap { @depth -= 1 }

        def end_mapping = super.tap { @depth -= 1 }

        private

        def deeper
          @depth = @depth.to_i + 1
          raise TooDeep if @depth > DEEPEST

          yield
        end
      end
      private_constant :Tree

      # @param path [String] for messages
      def initialize(text, path)
        @text = text
        @path = path
      end

      # @return [Object] what the text says
      # @raise [WorkflowError] when it is no YAML, or not of this kind
      def value
        fault = Support::Utf8.fault(@text)
        invalid!(fault) if fault

        documents = tree.children
        invalid!("has #{documents.size} documents: a workflow is one") if documents.size > 1
        documents.each { |document| measure(document.root, {}) }
        YAML.safe_load(@text, permitted_classes: [Symbol], aliases: true, filename: @path)
      rescue Psych::Exception, ArgumentError, TypeError, EncodingError => e # a tag that its text does not fit
        invalid!("is no YAML: #{e.message}")
      rescue RegexpError # Psych tries patterns on each word, and Rails limits how long a pattern may take (Regexp.timeout)
        invalid!("has a word without quotes that takes too long to read: put it in quotes, or make it shorter")
      rescue Tree::TooDeep
        invalid!("is nested more than #{DEEPEST} deep: make it flatter")
      end

      private

      def tree
        builder = Tree.new
        Psych::Parser.new(builder).parse(@text, @path)
        builder.root
      end

      # @param anchors [Hash{String => Integer}] nodes below each anchor so far
      # @return [Integer] nodes from here on, every alias written out
      def measure(node, anchors)
        return anchors.fetch(node.anchor, 1) if node.is_a?(Psych::Nodes::Alias)
        return 1 unless node.children

        verify_keys(node) if node.is_a?(Psych::Nodes::Mapping)
        size = 1 + node.children.sum { |child| measure(child, anchors) }
        invalid!("has aliases that write out to more than #{most} values: say it without") if size > most
        anchors[node.anchor] = size if node.anchor
        size
      end

      def verify_keys(mapping)
        seen = Set.new
        mapping.children.each_slice(2) do |key, _|
          next unless key.is_a?(Psych::Nodes::Scalar)

          invalid!("line #{key.start_line + 1}: the key `#{key.value.truncate(80)}` stands twice") unless seen.add?(key.value)
        end
      end

      def most = [@text.bytesize, MOST_NODES].max

      def invalid!(what) = raise(WorkflowError.new("#{@path} #{what}"))
    end
  end
end
