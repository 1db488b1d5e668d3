# frozen_string_literal: true

module TaskerCore
  # The base class of the gem's models, on the application's own connection, or on that of
  # `config.tasker_core.connects_to`. Read only: the SQL functions are the only writers.
  class ApplicationRecord < ActiveRecord::Base
    self.abstract_class = true
    # The application's settings of Active Record apply to its own tables only.
    self.strict_loading_by_default = false
    self.primary_key_prefix_type = nil
    self.inheritance_column = nil
    self.implicit_order_column = nil

    class << self
      # The class whose `connected_to` and default shard apply to these models: the application's own primary abstract
      # class, unless these models have a connection of their own.
      # @api private
      def connection_class_for_self
        found = super
        found == ActiveRecord::Base ? ActiveRecord.application_record_class || found : found
      end

      # Runs before each use of a connection, so that the shard of the first one is declared.
      # @api private
      def current_shard
        load_declarations unless ActiveRecord.application_record_class
        super
      end

      # @api private
      def default_shard
        owner = connection_class_for_self
        owner <= TaskerCore::ApplicationRecord ? super : owner.default_shard
      end

      # Switches these models for the block, to a role or shard that the application declares.
      # @api private
      # @param place [Hash{Symbol => Symbol}] role or shard
      # @raise [ConfigurationError] if the application does not declare it
      def switched_to(**place, &block)
        load_declarations
        wanted = { role: current_role, shard: current_shard, **place }
        unless connection_handler.retrieve_connection_pool(connection_specification_name, **wanted)
          raise ConfigurationError.new("#{place.first.join(': ')} is not declared by the application's `connects_to`")
        end

        connection_class_for_self.connected_to(**place, &block)
      end

      # @api private
      # @return [Array<Symbol>] the shards of these models, without the connection that Rails itself makes at boot
      def shards
        load_declarations
        role = ActiveRecord.writing_role
        known = connection_handler.connection_pool_list(role).map(&:shard).uniq.select do |shard|
          connection_handler.retrieve_connection_pool(connection_specification_name, role: role, shard: shard)
        end
        default_shard == :default ? known : known - [:default]
      end

      # @api private
      # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] one for each shard
      def on_each_shard(&block)
        shards.each { |shard| switched_to(shard: shard) { on_connection(&block) } }
      end

      # Makes a shard the default of this process, for these models and those of the application's primary abstract
      # class.
      # @api private
      # @param name [String]
      # @raise [ConfigurationError]
      def use_shard(name)
        shard = shards.find { |known| known.name == name }
        raise ConfigurationError.new("shard: #{name} is not one of #{shards.join(', ')}") unless shard

        connection_class_for_self.default_shard = shard
      end

      private

      # Roles and shards are declared by a class that Rails may not have loaded yet.
      def load_declarations = Object.const_defined?(:ApplicationRecord) && ::ApplicationRecord
    end

    # @yieldparam connection [ActiveRecord::ConnectionAdapters::AbstractAdapter] the application's, in its transaction
    # @return [Object] what the block returns
    # @raise [DatabaseError] without a connection
    def self.on_connection(&block)
      respond_to?(:with_connection) ? with_connection(&block) : yield(connection)
    rescue ActiveRecord::ConnectionNotEstablished, ActiveRecord::NoDatabaseError => e
      raise DatabaseError.new("the database cannot be used: #{e.message}")
    end

    # Names what the database cannot read. An open transaction of the caller can continue after it.
    # @api private
    # @param what [String] "the tags of task 5"
    # @raise [UnreadableError]
    def self.reading(what, &block)
      on_connection { |connection| connection.transaction_open? ? transaction(requires_new: true, &block) : yield }
    rescue ActiveRecord::StatementInvalid => e
      raise Postgres::Functions.unreadable(e, what) || e
    end

    # Runs a second statement where the database cannot read what the first one asks for.
    # @api private
    # @yieldparam sql [String]
    # @raise [UnreadableError]
    def self.reading_either(what, first, second)
      reading(what) { yield first }
    rescue UnreadableError
      reading(what) { yield second }
    end

    # Loads records with all their columns. If the database cannot read these together, loads them without `column`,
    # which may be large, and so damaged apart from the rest of its row: the model then reads it when needed.
    # @api private
    # @param relation [ActiveRecord::Relation]
    # @param column [Symbol]
    # @return [Array<ApplicationRecord>]
    # @raise [UnreadableError]
    def self.load_without(column, relation, what)
      reading(what) { relation.to_a }
    rescue UnreadableError
      reading(what) { relation.public_send(:"without_#{column}").to_a }
    end

    def readonly? = true

    private

    # @raise [UnreadableError]
    def read_column(column, what)
      key = Array(self.class.primary_key).index_with { |name| self[name] }
      self.class.reading(what) { self.class.uncached { self.class.unscoped.where(key).pick(column) } }
    end
  end

  ActiveSupport.run_load_hooks(:tasker_core_record, ApplicationRecord)
end
